# The CUDA backend, with the language for all folders that have sources for nvcc. KVC_CUDA (AUTO, ON, OFF) says whether;
# kernels/cuda/CMakeLists.txt compiles the kernels, kernels/simt/CMakeLists.txt builds the same kernels for the CPU, for tests.

if(KVC_CUDA STREQUAL "ON")
  # The toolkit that set-up unpacks into the clone (cmake/setup.sh cuda), unless CMAKE_CUDA_COMPILER or CUDACXX names another.
  file(GLOB nvcc "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc")
  if(nvcc AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER "${nvcc}")
    # CMake tries the compiler by linking a program; nvcc looks in lib64, and the packages have lib.
    cmake_path(GET nvcc PARENT_PATH folder)
    set(ENV{LIBRARY_PATH} "${folder}/../lib:$ENV{LIBRARY_PATH}")
  endif()
  set(KVC_CUDA_ARCHS "80-real;90a-real" CACHE STRING "Architectures that the CUDA kernels are compiled for")
  set(CMAKE_CUDA_ARCHITECTURES "${KVC_CUDA_ARCHS}")
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know yet how to ask nvcc for C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()

  # kvc_flags is for C++: a host compiler that nvcc calls sees generated code.
  set(KVC_NVCC_FLAGS -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-ffp-contract=off)

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

if(NOT KVC_CUDA STREQUAL "OFF" AND NOT CMAKE_CROSSCOMPILING
   AND EXISTS "${PROJECT_SOURCE_DIR}/kernels/cuda/CMakeLists.txt")
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/cuda" kernels/cuda)
elseif(KVC_CUDA STREQUAL "ON")
  message(FATAL_ERROR "KVC_CUDA=ON: this source tree or this target processor has no CUDA backend")
endif()

if(KVC_TESTS AND NOT KVC_CUDA STREQUAL "OFF" AND EXISTS "${PROJECT_SOURCE_DIR}/kernels/simt/CMakeLists.txt")
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/simt" kernels/simt)
endif()
