java: $(LIBKVC)
	gcc $(CFLAGS) -fno-strict-aliasing -shared -fPIC -I$(JAVA_HOME)/include -I$(JAVA_HOME)/include/linux -I. \
	    java/generated/kvc_wrap.c -o $(OUT)/libkvc_java.so $(LINK)
	@rm -rf $(OUT)/java
	javac -Xlint:all -Werror -d $(OUT)/java java/generated/kvc/raw/*.java java/kvc/raw/*.java java/proof/*.java

java-test: java
	LD_LIBRARY_PATH=$(PREFIX)/lib:$(OUT) java -Xcheck:jni -Djava.library.path="$(OUT)" -cp "$(OUT)/java" Refusals
