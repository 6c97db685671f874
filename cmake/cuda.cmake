# The CUDA backend. KVC_CUDA: ON needs a toolkit, AUTO uses one that the machine has, OFF leaves all of it out, the emulator included.
# kernels/cuda builds kvc_cuda (the kernels by nvcc and their host side), kernels/simt the same sources for the CPU, for tests.

include(cuda_toolkit)

# What the caller asks for is wrong whether there is a toolkit or not.
if(DEFINED KVC_CUDA_ARCHS AND NOT KVC_CUDA STREQUAL "OFF")
  kvc_fault_of_archs("${KVC_CUDA_ARCHS}" fault)
  if(fault)
    message(FATAL_ERROR "KVC_CUDA_ARCHS=${KVC_CUDA_ARCHS}: ${fault}; expected numbers from ${KVC_CUDA_LEAST_ARCH} on, each alone or with "
                        "-real (machine code alone) or -virtual (PTX alone) behind it, such as ${KVC_CUDA_ARCHS_DEFAULT}")
  endif()
endif()

# nvcc: what CMAKE_CUDA_COMPILER or CUDACXX names, in PATH, where toolkits are installed or, with ON, what set-up unpacks into the clone
# (cmake/setup.sh cuda).
set(KVC_NVCC "")
if(KVC_CUDA MATCHES "^(AUTO|ON)$" AND NOT CMAKE_CROSSCOMPILING)
  if(CMAKE_CUDA_COMPILER)
    set(KVC_NVCC "${CMAKE_CUDA_COMPILER}")
  elseif(DEFINED ENV{CUDACXX})
    set(KVC_NVCC "$ENV{CUDACXX}")
  else()
    set(nvcc_of_setup "")
    if(KVC_CUDA STREQUAL "ON")
      file(GLOB nvcc_of_setup "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/bin")
    endif()
    find_program(KVC_NVCC_FOUND nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda/bin ${nvcc_of_setup} PATH_SUFFIXES bin)
    mark_as_advanced(KVC_NVCC_FOUND)
    if(KVC_NVCC_FOUND)
      set(KVC_NVCC "${KVC_NVCC_FOUND}")
    endif()
  endif()
endif()
if(KVC_CUDA STREQUAL "ON" AND NOT KVC_NVCC)
  message(FATAL_ERROR "KVC_CUDA=ON: no nvcc in PATH, /usr/local/cuda or .venv (cmake/setup.sh cuda), and CUDACXX names none; "
                      "or this target processor has no CUDA backend")
endif()
if(KVC_CUDA STREQUAL "AUTO" AND KVC_SANITIZE)
  set(KVC_NVCC "")  # sanitizers see nothing of what nvcc compiles
endif()

if(KVC_NVCC)
  # CMake tries the compiler by linking a program; nvcc looks in lib64, and the packages of set-up have lib.
  cmake_path(GET KVC_NVCC PARENT_PATH folder)
  set(ENV{LIBRARY_PATH} "${folder}/../lib:$ENV{LIBRARY_PATH}")
  if(DEFINED KVC_CUDA_ARCHS)
    set(archs "${KVC_CUDA_ARCHS}")
  else()
    set(archs "${KVC_CUDA_ARCHS_DEFAULT}")
  endif()
  # Seconds, so once for a compiler and a list.
  if(NOT KVC_NVCC_TRIED STREQUAL "${KVC_NVCC} ${archs}")
    kvc_fault_of_nvcc("${KVC_NVCC}" "${archs}" "${CMAKE_BINARY_DIR}${CMAKE_FILES_DIRECTORY}" fault)
    if(NOT fault)
      set(KVC_NVCC_TRIED "${KVC_NVCC} ${archs}" CACHE INTERNAL "What built a program")
    elseif(KVC_CUDA STREQUAL "ON")
      message(FATAL_ERROR "KVC_CUDA=ON: ${fault}")
    else()
      message(WARNING "kvc is built without its CUDA backend (KVC_CUDA=OFF says so without this warning, ON demands it): ${fault}")
      set(KVC_NVCC "")
    endif()
  endif()
endif()

if(KVC_NVCC)
  set(CMAKE_CUDA_COMPILER "${KVC_NVCC}")
  set(KVC_CUDA_ARCHS "${archs}" CACHE STRING
      "Architectures that the CUDA kernels are compiled for: machine code and, without -real, PTX for later ones; -virtual: PTX alone")
  set(CMAKE_CUDA_ARCHITECTURES "${KVC_CUDA_ARCHS}")
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know yet how to ask nvcc for C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  message(STATUS "kvc: CUDA kernels by ${KVC_NVCC} for ${KVC_CUDA_ARCHS}")

  # kvc_flags is for C++: a host compiler that nvcc calls sees generated code.
  set(KVC_NVCC_FLAGS -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-ffp-contract=off)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND KVC_NVCC_FLAGS --compress-mode=size)  # five to eight times smaller
  endif()

  # For targets that run the kernels on a GPU. The runtime and the C++ library go into programs: the machine that has the GPU need not be
  # the one that built them.
  function(kvc_use_gpu_kernels target)
    target_link_libraries(${target} PRIVATE kvc_cuda)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${KVC_NVCC_FLAGS}>")
    target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
    set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Static)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
      target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
    endif()
  endfunction()
endif()

if(KVC_NVCC)
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/cuda" kernels/cuda)
endif()
if(KVC_TESTS AND NOT KVC_CUDA STREQUAL "OFF")
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/simt" kernels/simt)
endif()
