# Every folder tests/<name>/ with *.cpp becomes one doctest program, kvc_<name>_tests, linked to kvc_static.
# A folder that needs more brings its own CMakeLists.txt and is then left to it.
#   tests/reference/   a library (independent witnesses: quantizers, attention, model) linked into every program
#   tests/capi/        linked to libkvc.so and sees kvc.h alone

if(NOT TARGET kvc_static)
  return()
endif()
find_path(KVC_DOCTEST_INCLUDE doctest/doctest.h NO_CMAKE_FIND_ROOT_PATH)
if(NOT KVC_DOCTEST_INCLUDE)
  message(FATAL_ERROR "doctest is missing (Debian: doctest-dev); or configure with -DKVC_TESTS=OFF")
endif()

# What does not depend on how the code is compiled runs in the plain build for this machine alone.
set(KVC_HOST_CHECKS OFF)
if(NOT KVC_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(KVC_HOST_CHECKS ON)
  find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter)
endif()

# Seconds a test program may take; emulated and sanitized code is slower.
set(KVC_TEST_TIMEOUT 900)
if(CMAKE_CROSSCOMPILING)
  add_compile_definitions(KVC_TESTS_EMULATED)  # the largest grids are thinned
endif()
if(KVC_SANITIZE OR CMAKE_CROSSCOMPILING)
  set(KVC_TEST_TIMEOUT 3600)
endif()

# Programs that take too long for the gate in this kind of build: kvc_later_tests builds them, `ctest -L later` runs them. The gate runs
# the cases of one that KVC_TESTS_PART_<name> selects, and those in KVC_TESTS_THINNED over one codec of each family.
set(KVC_TESTS_THINNED)
if(CMAKE_CROSSCOMPILING)
  set(KVC_TESTS_LATER laws model exhausted snapshot)
  # What may differ between processors: the bytes. Refusals are the same code on all.
  set(KVC_TESTS_PART_snapshot "--test-case=golden*every target*,*same bytes*,*bytes are the same*")
elseif(KVC_SANITIZE STREQUAL "thread")
  set(KVC_TESTS_LATER laws kernels snapshot device model)  # but the laws that name threads: laws_of_threads, device_of_threads
  set(KVC_TESTS_PART_model "--test-case=*threads*")
elseif(KVC_SANITIZE)
  # Left out is what took half of the time: numbers and bytes, which depend on no sanitizer, and long courses. And the laws over a device, whose
  # memory no build can touch anyway.
  set(KVC_TESTS_LATER laws cuda cuda_scripts model device)
  set(KVC_TESTS_PART_laws "--test-case-exclude=attention: *,planner: *,byte budgets: they hold*,every policy*,full arena: an eviction*,interplay: a refused import*,page mass: neither*,prefix: a hit equals*,prefix memory: an entry*,repacked: each*")
  set(KVC_TESTS_PART_model "--test-case-exclude=model: on every target digests*")
  set(KVC_TESTS_PART_cuda "--test-case-exclude=lane order: *,recode: the same at every pair*,executor: a hundred steps*,executor: sixteen steps*,executor: steps of several*,executor: mass where*,measure: in any order*")
  set(KVC_TESTS_PART_cuda_scripts "--test-case-exclude=cuda measure: policies by keys*")
  set(KVC_TESTS_THINNED laws snapshot cuda_scripts)
else()
  set(KVC_TESTS_LATER)
  set(KVC_TESTS_THINNED device)  # the program laws has the whole lists
endif()
add_custom_target(kvc_later_tests)
# ctest starts what costs more first: all quick tests, whose cost is 0, and then these, so that no processor is idle at the end.
set(KVC_TESTS_LONGEST_FIRST cuda_laws laws cuda cuda_scripts device kernels snapshot model)

add_library(kvc_doctest_main OBJECT tests/doctest_main.cpp)
target_link_libraries(kvc_doctest_main PUBLIC kvc_flags)
if(NOT KVC_DOCTEST_INCLUDE STREQUAL "/usr/include")
  target_include_directories(kvc_doctest_main SYSTEM PUBLIC "${KVC_DOCTEST_INCLUDE}")
endif()

# What the presets stand for, from the table of docs/FORMATS.md: the tests hold the library's own list to the text.
set(formats "${PROJECT_SOURCE_DIR}/docs/FORMATS.md")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${formats}")
file(STRINGS "${formats}" rows REGEX "^\\| [a-z0-9]+ \\| `k=[^`]*` \\|$")
list(TRANSFORM rows REPLACE "^\\| ([a-z0-9]+) \\| `(.*)` \\|$" "{\"\\1\", \"\\2\"},")
list(JOIN rows "\n" rows)
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/tests/reference/documented_presets.inc" CONTENT "${rows}\n" @ONLY)

file(GLOB KVC_REFERENCE_SOURCES CONFIGURE_DEPENDS tests/reference/*.cpp)
if(KVC_REFERENCE_SOURCES)
  add_library(kvc_reference STATIC ${KVC_REFERENCE_SOURCES})
  target_include_directories(kvc_reference PUBLIC "${PROJECT_SOURCE_DIR}" "${KVC_PUBLIC_INCLUDE}"
                             PRIVATE "${PROJECT_BINARY_DIR}/tests/reference")
  target_link_libraries(kvc_reference PUBLIC kvc_flags)
  if(KVC_SANITIZE)
    target_compile_options(kvc_reference PRIVATE -O2)  # all numbers of the laws are worked out here once more
  endif()
endif()

# Sources that several programs share, compiled once.
function(kvc_add_test_objects name)
  add_library(${name} OBJECT EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${name} PUBLIC kvc_reference kvc_flags kvc_doctest_main)
endfunction()

function(kvc_add_test_program name library)
  add_executable(kvc_${name}_tests ${ARGN})
  target_link_libraries(kvc_${name}_tests PRIVATE ${library} kvc_flags kvc_doctest_main)
  if(TARGET kvc_reference)
    target_link_libraries(kvc_${name}_tests PRIVATE kvc_reference)
  endif()
  add_test(NAME ${name} COMMAND kvc_${name}_tests ${KVC_TEST_ARGUMENTS})
  list(FIND KVC_TESTS_LONGEST_FIRST ${name} place)
  math(EXPR cost "-1 - ${place}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${KVC_TEST_TIMEOUT} COST ${cost})
  if(name IN_LIST KVC_TESTS_LATER)
    set_tests_properties(${name} PROPERTIES LABELS later)
    if(NOT DEFINED KVC_TESTS_PART_${name})
      set_target_properties(kvc_${name}_tests PROPERTIES EXCLUDE_FROM_ALL ON)
      add_dependencies(kvc_later_tests kvc_${name}_tests)
      return()
    endif()
    set(part ${name}_in_part)
    add_test(NAME ${part} COMMAND kvc_${name}_tests ${KVC_TESTS_PART_${name}})
  elseif(name IN_LIST KVC_TESTS_THINNED)
    set_tests_properties(${name} PROPERTIES LABELS later)
    set(part ${name}_thinned)
    add_test(NAME ${part} COMMAND kvc_${name}_tests ${KVC_TEST_ARGUMENTS})
  else()
    return()
  endif()
  set_tests_properties(${part} PROPERTIES TIMEOUT ${KVC_TEST_TIMEOUT} COST ${cost})
  if(name IN_LIST KVC_TESTS_THINNED)
    set_tests_properties(${part} PROPERTIES ENVIRONMENT KVC_LAWS_THINNED=1)
  endif()
endfunction()

file(GLOB KVC_TEST_FOLDERS CONFIGURE_DEPENDS LIST_DIRECTORIES true tests/*)
foreach(folder ${KVC_TEST_FOLDERS})
  get_filename_component(name "${folder}" NAME)
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.cpp")
  if(NOT IS_DIRECTORY "${folder}" OR name STREQUAL "reference")
    continue()
  elseif(NOT TARGET kvc AND name MATCHES "^(capi|abi|package)$")
    continue()
  elseif(EXISTS "${folder}/CMakeLists.txt")
    add_subdirectory("${folder}" "tests/${name}")
  elseif(sources AND name STREQUAL "capi")
    kvc_add_test_program(capi kvc ${sources})
    add_subdirectory(tests/capi/header)
  elseif(sources)
    kvc_add_test_program(${name} kvc_static ${sources})
  endif()
endforeach()

if(NOT TARGET kvc)
  return()
endif()
file(GLOB KVC_C_EXAMPLES CONFIGURE_DEPENDS examples/c/*.c)
foreach(source ${KVC_C_EXAMPLES})
  get_filename_component(name "${source}" NAME_WE)
  add_executable(example_${name} "${source}")
  target_link_libraries(example_${name} PRIVATE kvc kvc_flags m)
  add_test(NAME example_${name} COMMAND example_${name})
  set_tests_properties(example_${name} PROPERTIES TIMEOUT ${KVC_TEST_TIMEOUT})
endforeach()
