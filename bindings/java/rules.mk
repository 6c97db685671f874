# build/bindings/java holds all classes, kvc.jar those of the library with the natives inside, replay_java starts the replayer.
# What needs Java 22 is left out where no such JDK is found: JDK22=FOLDER/ names one.
JAVA_MAIN := $(shell find java/generated java/src/main/java -name '*.java')
JAVA_MAIN_22 := $(wildcard java/src/main/java22/kvc/*.java)
JAVA_TESTS := $(wildcard java/proof/*.java java/src/test/java/kvc/*.java)
JAVA_TESTS_22 := $(wildcard java/src/test/java22/kvc/*.java)
JAVA_NATIVES := $(OUT)/natives/linux/$(patsubst x86_64,amd64,$(shell uname -m))
JDK22 ?= $(lastword $(sort $(dir $(shell grep -lE '^JAVA_VERSION="(2[2-9]|[3-9][0-9])' /usr/lib/jvm/*/release 2> /dev/null))))
JAVAC := javac -Xlint:all -Werror

$(OUT)/libkvc_java.so: java/generated/kvc_wrap.c abi_check.h generated/layout.h $(LIBKVC)
	@mkdir -p $(JAVA_NATIVES)
	gcc $(CFLAGS) -fno-strict-aliasing -shared -fPIC -I$(JAVA_HOME)/include -I$(JAVA_HOME)/include/linux -I. \
	    java/generated/kvc_wrap.c -o $@ $(LINK) -Wl,-rpath,'$$ORIGIN'
	@cp -L $(LIBKVC) $@ $(JAVA_NATIVES)/

# The bridge of the tests, with what looks at the calls inside.
$(OUT)/java-witness/libkvc_java.so: java/src/test/c/witness.c $(OUT)/libkvc_java.so
	@mkdir -p $(@D)
	gcc $(CFLAGS) -fno-strict-aliasing -shared -fPIC -I$(JAVA_HOME)/include -I$(JAVA_HOME)/include/linux -I. \
	    java/generated/kvc_wrap.c $< -o $@ $(LINK) -ldl -Wl,-rpath,$(PREFIX)/lib

# The bridge for a class library whose buffers have other fields (java.i).
$(OUT)/java-methods/libkvc_java.so: $(OUT)/libkvc_java.so
	@mkdir -p $(@D)
	gcc $(CFLAGS) -fno-strict-aliasing -shared -fPIC -I$(JAVA_HOME)/include -I$(JAVA_HOME)/include/linux -I. -DKVC_BUFFER_METHODS \
	    java/generated/kvc_wrap.c -o $@ $(LINK) -Wl,-rpath,$(PREFIX)/lib

$(OUT)/kvc.jar: $(OUT)/libkvc_java.so $(JAVA_MAIN) $(JAVA_MAIN_22) $(JAVA_TESTS) $(JAVA_TESTS_22)
	@rm -rf $(OUT)/java && mkdir -p $(OUT)/java
	@echo javac $(notdir $@)
	@$(JAVAC) --release 17 -d $(OUT)/java $(JAVA_MAIN)
ifneq ($(JDK22),)
	@$(JDK22)bin/$(JAVAC) --release 22 -cp $(OUT)/java -d $(OUT)/java $(JAVA_MAIN_22)
endif
	@echo 'Automatic-Module-Name: kvc' > $(OUT)/java-manifest
	jar --create --file $@ --manifest $(OUT)/java-manifest -C $(OUT)/java kvc -C $(OUT)/natives linux
	@$(JAVAC) --release 17 -cp $(OUT)/java -d $(OUT)/java $(JAVA_TESTS)
ifneq ($(JDK22),)
	@$(JDK22)bin/$(JAVAC) --release 22 -cp $(OUT)/java -d $(OUT)/java $(JAVA_TESTS_22)
endif

$(OUT)/replay_java: $(OUT)/kvc.jar java/rules.mk
	@printf '#!/bin/sh\nexport LD_LIBRARY_PATH="$${LD_LIBRARY_PATH:+$$LD_LIBRARY_PATH:}%s"\nexec "$${JAVA:-java}" $$JAVA_FLAGS -XX:+UseSerialGC -Djava.library.path="%s" -cp "%s" kvc.ReplayMain "$$@"\n' \
	    $(PREFIX)/lib $(OUT) $(OUT)/java > $@
	@chmod +x $@

$(OUT)/replay_java-ffm: $(OUT)/replay_java
	@printf '#!/bin/sh\nJAVA=%s JAVA_FLAGS="$$JAVA_FLAGS --enable-native-access=ALL-UNNAMED -Dkvc.calls=ffm" exec "$${0%%/*}/replay_java" "$$@"\n' "$(JDK22)bin/java" > $@
	@chmod +x $@

# A replayer for each way of calling; one that this machine's Java does not have would only fail.
java: $(OUT)/replay_java $(if $(JDK22),$(OUT)/replay_java-ffm)
	$(if $(JDK22),,@rm -f $(OUT)/replay_java-ffm)

$(OUT)/java-examples/built: $(OUT)/kvc.jar $(wildcard java/examples/*.java)
	@rm -rf $(@D)
	@$(JAVAC) --release 17 -cp $(OUT)/kvc.jar -d $(@D) java/examples/*.java
	@touch $@

# -Xcheck:jni makes calls slow, so that under it fewer objects are dropped. java-long: the storms, half a minute each.
JAVA_UNIT := CoverageTests FieldTests BufferTests FeatureTests DeviceTests LifetimeTests ReplayTests
JAVA_RUN := -XX:+UseSerialGC -Djava.library.path="$(OUT)" -Dkvc.root="$(ROOT)" -Dkvc.out="$(OUT)" -cp "$(OUT)/java"
java-test java-long java-on-device: export LD_LIBRARY_PATH := $(PREFIX)/lib:$(OUT)
java-test java-long java-on-device: export LC_ALL := C.UTF-8

# Over that bridge; what the calls are made in is compiled before it runs, as it would be in the end.
JAVA_WITNESS := $(JAVA_RUN) -Dkvc.library.path="$(OUT)/java-witness" -Xcomp -XX:-TieredCompilation -XX:CompileCommand=quiet \
    -XX:CompileCommand=compileonly,kvc.*::* kvc.TestMain WitnessTests

java-test: java $(OUT)/java-examples/built $(OUT)/java-witness/libkvc_java.so $(OUT)/java-methods/libkvc_java.so
	@java -Xcheck:jni $(JAVA_RUN) Refusals
	@java/checked java -Xcheck:jni $(JAVA_RUN) -Dkvc.dropped=5000 kvc.TestMain $(JAVA_UNIT) StormTests
	@java/checked java -Xcheck:jni $(JAVA_RUN) -Dkvc.library.path="$(OUT)/java-methods" kvc.TestMain BufferTests
	@java $(JAVA_RUN) kvc.TestMain LifetimeTests HotPathTests LibraryTests
	@java/checked java -Xcheck:jni $(JAVA_WITNESS)
ifneq ($(JDK22),)
	@$(JDK22)bin/java --enable-native-access=ALL-UNNAMED $(JAVA_WITNESS) SegmentWitnessTests
	@$(JDK22)bin/java --enable-native-access=ALL-UNNAMED $(JAVA_RUN) kvc.TestMain $(JAVA_UNIT) StormTests HotPathTests SegmentTests ArenaTests
	@$(JDK22)bin/java --enable-native-access=ALL-UNNAMED -Dkvc.calls=jni $(JAVA_RUN) kvc.TestMain BufferTests SegmentTests ArenaTests
	@$(JDK22)bin/java --enable-native-access=ALL-UNNAMED -Dkvc.library.path="$(OUT)/java-methods" $(JAVA_RUN) kvc.TestMain HiddenArenaTests
else
	@echo "skipped: Java's calls through FFM, as no JDK 22 or newer lies in /usr/lib/jvm; JDK22=FOLDER/ names one"
endif

# On the emulated device, which must have been built.
java-on-device: java
	@LD_PRELOAD="$(EMULATED)" java $(JAVA_RUN) -Dkvc.device=must kvc.TestMain DeviceTests

.PHONY: java-long java-on-device
java-long: java
	@java/packed $(OUT) $(JDK22)
	@java/checked java -Xcheck:jni $(JAVA_RUN) -Dkvc.storm=30 -Dkvc.dropped=1000000 kvc.TestMain LifetimeTests StormTests
ifneq ($(JDK22),)
	@$(JDK22)bin/java --enable-native-access=ALL-UNNAMED $(JAVA_RUN) -Dkvc.storm=30 kvc.TestMain StormTests
endif
