# kvc_static and kvc, from one set of objects.

set(KVC_ABI_MAJOR 1)
file(GLOB KVC_CORE_SOURCES CONFIGURE_DEPENDS
     core/base/*.cpp core/codec/*.cpp core/backend/*.cpp core/store/*.cpp
     core/policy/*.cpp core/attend/*.cpp core/cache/*.cpp)
file(GLOB KVC_CAPI_SOURCES CONFIGURE_DEPENDS capi/*.cpp)
file(GLOB KVC_KERNEL_SOURCES CONFIGURE_DEPENDS kernels/cpu/*.cpp)

# One translation unit (or a few, <target>_*.cpp) per instruction set; each has its own flags and is
# built only for its processor family. The macro KVC_CPU_<TARGET> tells the dispatcher that it exists.
set(KVC_SIMD_avx2_FOR "x86_64|AMD64")
set(KVC_SIMD_avx2_FLAGS -mavx2 -mfma -mf16c)
set(KVC_SIMD_avx512_FOR "x86_64|AMD64")
set(KVC_SIMD_avx512_FLAGS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c)
set(KVC_SIMD_avx512vnni_FOR "${KVC_SIMD_avx512_FOR}")
set(KVC_SIMD_avx512vnni_FLAGS ${KVC_SIMD_avx512_FLAGS} -mavx512vnni)
set(KVC_SIMD_neon_FOR "aarch64|arm64|ARM64")
set(KVC_SIMD_neon_FLAGS -march=armv8.2-a+fp16+dotprod)

set(KVC_SIMD_DEFINES)
foreach(target avx2 avx512 avx512vnni neon)
  set(units ${KVC_KERNEL_SOURCES})
  list(FILTER units INCLUDE REGEX "/${target}(_[a-z0-9_]+)?\\.cpp$")
  if(NOT units)
    continue()
  endif()
  if(KVC_SANITIZE STREQUAL "thread" AND NOT target MATCHES "^(avx2|neon)$")
    list(REMOVE_ITEM KVC_KERNEL_SOURCES ${units})  # no kernel starts a thread: one instruction set is enough to race with
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${KVC_SIMD_${target}_FOR})$")
    if(KVC_SANITIZE MATCHES "undefined")
      # A check of every pointer of every intrinsic takes minutes to compile.
      list(APPEND KVC_SIMD_${target}_FLAGS -fno-sanitize=alignment)
    endif()
    if(KVC_SANITIZE MATCHES "address" AND target MATCHES "^avx512")
      # Half of the time that these units take to compile. Those of avx2, which are written alike, are watched.
      list(APPEND KVC_SIMD_${target}_FLAGS "--param=asan-stack=0")
    endif()
    set_source_files_properties(${units} PROPERTIES COMPILE_OPTIONS "${KVC_SIMD_${target}_FLAGS}")
    string(TOUPPER ${target} upper)
    list(APPEND KVC_SIMD_DEFINES KVC_CPU_${upper}=1)
  else()
    list(REMOVE_ITEM KVC_KERNEL_SOURCES ${units})
  endif()
endforeach()

set(KVC_SOURCES ${KVC_CORE_SOURCES} ${KVC_CAPI_SOURCES} ${KVC_KERNEL_SOURCES})
if(NOT KVC_SOURCES OR NOT EXISTS "${PROJECT_SOURCE_DIR}/kvc.h")
  message(STATUS "kvc: no sources yet, nothing to build")
  return()
endif()

# The public header alone, in a folder of its own: what links to kvc cannot reach anything else.
set(KVC_PUBLIC_INCLUDE "${PROJECT_BINARY_DIR}/include")
configure_file(kvc.h "${KVC_PUBLIC_INCLUDE}/kvc.h" COPYONLY)

add_library(kvc_objects OBJECT ${KVC_SOURCES})
target_include_directories(kvc_objects PUBLIC "${PROJECT_SOURCE_DIR}")
target_compile_definitions(kvc_objects PUBLIC ${KVC_SIMD_DEFINES} PRIVATE KVC_VERSION="${PROJECT_VERSION}")
target_link_libraries(kvc_objects PUBLIC kvc_flags)

# A device of another kind takes the place of this stand-in: in kvc the CUDA backend, in tests the objects of the emulated one.
set(KVC_NO_DEVICE kernels/none/device.cpp)
add_library(kvc_static STATIC ${KVC_NO_DEVICE})
target_link_libraries(kvc_static PUBLIC kvc_objects)

include(cuda)  # may add kvc_cuda

if(NOT KVC_CAPI_SOURCES)
  return()
endif()

add_library(kvc SHARED)
add_library(kvc::kvc ALIAS kvc)
target_link_libraries(kvc PRIVATE kvc_objects)
if(TARGET kvc_cuda)
  target_link_libraries(kvc PRIVATE kvc_cuda)
else()
  target_sources(kvc PRIVATE ${KVC_NO_DEVICE})
endif()
target_include_directories(kvc INTERFACE $<BUILD_INTERFACE:${KVC_PUBLIC_INCLUDE}>)
set_target_properties(kvc PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${KVC_ABI_MAJOR}
                                     LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
if(NOT KVC_SANITIZE)
  # A program in any language loads libkvc.so whatever C++ library it carries itself.
  target_link_options(kvc PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -Wl,-z,defs
                                  -Wl,-z,relro,-z,now)
endif()
set(KVC_SYMBOL_MAP "${PROJECT_SOURCE_DIR}/capi/kvc.map")
if(EXISTS "${KVC_SYMBOL_MAP}")
  target_link_options(kvc PRIVATE "-Wl,--version-script=${KVC_SYMBOL_MAP}")
  set_target_properties(kvc PROPERTIES LINK_DEPENDS "${KVC_SYMBOL_MAP}")
endif()
