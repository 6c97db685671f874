csharp: $(LIBKVC)
	gcc $(CFLAGS) -shared -fPIC -I. csharp/generated/kvc_wrap.c -o $(OUT)/libkvc_csharp.so $(LINK)
	mcs -langversion:7.2 -unsafe -warnaserror -out:$(OUT)/proof.exe csharp/Handles.cs csharp/generated/*.cs csharp/proof/Proof.cs

csharp-test: csharp
