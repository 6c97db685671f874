# Options and compiler flags. Everything of ours links kvc_flags; nothing of it reaches users.

option(KVC_TESTS "Build tests and examples" ${PROJECT_IS_TOP_LEVEL})
option(KVC_BENCH "Build the benchmarks" OFF)
option(KVC_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
set(KVC_SANITIZE "" CACHE STRING "Sanitizers: empty, thread, or address,undefined")
set_property(CACHE KVC_SANITIZE PROPERTY STRINGS "" "address,undefined" "thread")
set(KVC_CUDA "AUTO" CACHE STRING "CUDA backend: AUTO (when a toolkit is found), ON, OFF")
set_property(CACHE KVC_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT KVC_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "KVC_CUDA=${KVC_CUDA}: expected AUTO, ON or OFF")
endif()

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug or Release" FORCE)
endif()
if(NOT KVC_SANITIZE MATCHES "^(|thread|address,undefined)$")
  message(FATAL_ERROR "KVC_SANITIZE=${KVC_SANITIZE}: expected empty, thread, or address,undefined")
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_package(Threads REQUIRED)

add_library(kvc_flags INTERFACE)
target_compile_options(kvc_flags INTERFACE
  # Codes and scales are bit-exact on every target, so the compiler may not fuse a multiply and an add.
  -ffp-contract=off -fno-math-errno
  # {sizeof s} sets struct_size and leaves the rest zero, which is every field's default: hence one warning less.
  -Wall -Wextra -Wno-missing-field-initializers -Wno-restrict -Wpedantic -Wconversion -Wshadow -Wundef -Wvla
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual>)
if(KVC_WERROR)
  target_compile_options(kvc_flags INTERFACE -Werror)
endif()
target_link_libraries(kvc_flags INTERFACE Threads::Threads)

if(KVC_SANITIZE)
  target_compile_options(kvc_flags INTERFACE
    -fsanitize=${KVC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(kvc_flags INTERFACE -fsanitize=${KVC_SANITIZE})
  if(KVC_SANITIZE STREQUAL "address,undefined")
    # GCC 12 reports false "maybe uninitialized" in sanitized code of the standard library.
    target_compile_options(kvc_flags INTERFACE -Wno-maybe-uninitialized)
    # Two checks of every pointer, a fifth of the time to compile: the address sanitizer sees these accesses as well.
    target_compile_options(kvc_flags INTERFACE -fno-sanitize=null,object-size)
  endif()
endif()
