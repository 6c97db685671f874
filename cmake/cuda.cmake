# The CUDA backend. kernels/cuda/CMakeLists.txt finds the toolkit, honours KVC_CUDA (AUTO, ON, OFF) and
# compiles the kernels; kernels/simt/CMakeLists.txt builds the same kernels for the CPU, for tests.

if(NOT KVC_CUDA STREQUAL "OFF" AND NOT CMAKE_CROSSCOMPILING
   AND EXISTS "${PROJECT_SOURCE_DIR}/kernels/cuda/CMakeLists.txt")
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/cuda" kernels/cuda)
elseif(KVC_CUDA STREQUAL "ON")
  message(FATAL_ERROR "KVC_CUDA=ON: this source tree or this target processor has no CUDA backend")
endif()

if(KVC_TESTS AND NOT KVC_CUDA STREQUAL "OFF" AND EXISTS "${PROJECT_SOURCE_DIR}/kernels/simt/CMakeLists.txt")
  add_subdirectory("${PROJECT_SOURCE_DIR}/kernels/simt" kernels/simt)
endif()
