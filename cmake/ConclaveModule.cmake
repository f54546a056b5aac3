# conclave_module(): one function builds every library of the tree the same way.
#
#   conclave_module(gguf
#     HEADERS include/conclave/gguf/file.hpp ...   # the public promise
#     SOURCES src/file.cpp ...                     # listed, never globbed
#     TESTS   src/file_test.cpp ...                # one GoogleTest program, beside the sources
#     FUZZERS src/file_fuzz.cpp ...                # built by the `fuzz` preset only
#     BENCHES src/file_bench.cpp ...               # Google Benchmark, built with CONCLAVE_BENCHES
#     DEPS conclave::base  PRIVATE_DEPS ...  LABELS core)
#
# It makes conclave_<name> (static, alias conclave::<name>), conclave_<name>_test with its cases
# registered as <name>.<Suite>.<Case>, and one program per fuzzer. A word that it does not know is
# fatal: a misspelt keyword must not silently drop sources.

include(GoogleTest)

# Warnings and language for our own targets only; linked privately so they reach nobody else.
add_library(conclave_flags INTERFACE)
target_compile_features(conclave_flags INTERFACE cxx_std_20)
target_compile_options(conclave_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor
  -Woverloaded-virtual -Wimplicit-fallthrough
  # Designated initialisers leave out what keeps its default.
  -Wno-missing-field-initializers
  $<$<BOOL:${CONCLAVE_WERROR}>:-Werror>
  # Promise 1: a*b+c is never fused behind our back; kernels that want an FMA say so.
  -ffp-contract=off)
if(CONCLAVE_SANITIZE)
  add_compile_options(-fsanitize=${CONCLAVE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CONCLAVE_SANITIZE})
  # gcc documents this warning as unreliable under its sanitizers; the plain builds keep it.
  target_compile_options(conclave_flags INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()

set_property(GLOBAL PROPERTY CONCLAVE_LISTED_FILES "")

function(conclave_list_files)
  foreach(file IN LISTS ARGN)
    set_property(GLOBAL APPEND PROPERTY CONCLAVE_LISTED_FILES "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  endforeach()
endfunction()

function(conclave_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" ""
    "HEADERS;SOURCES;TESTS;FUZZERS;BENCHES;DEPS;PRIVATE_DEPS;TEST_DEPS;LABELS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "conclave_module(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  conclave_list_files(${arg_HEADERS} ${arg_SOURCES} ${arg_TESTS} ${arg_FUZZERS} ${arg_BENCHES})

  set(target conclave_${name})
  add_library(${target} STATIC ${arg_SOURCES} ${arg_HEADERS})
  add_library(conclave::${name} ALIAS ${target})
  target_include_directories(${target} PUBLIC include PRIVATE src)
  target_link_libraries(${target} PUBLIC ${arg_DEPS} PRIVATE conclave_flags ${arg_PRIVATE_DEPS})

  if(arg_TESTS AND CONCLAVE_TESTS)
    add_executable(${target}_test ${arg_TESTS})
    target_include_directories(${target}_test PRIVATE src)
    target_link_libraries(${target}_test PRIVATE ${target} conclave_flags ${arg_PRIVATE_DEPS}
                          ${arg_TEST_DEPS} GTest::gmock_main)
    target_compile_definitions(${target}_test PRIVATE CONCLAVE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    gtest_discover_tests(${target}_test TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
                         PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 300)
  endif()

  if(CONCLAVE_FUZZERS)
    foreach(fuzzer IN LISTS arg_FUZZERS)
      get_filename_component(stem ${fuzzer} NAME_WE)
      add_executable(${name}_${stem} ${fuzzer})
      target_include_directories(${name}_${stem} PRIVATE src)
      target_link_libraries(${name}_${stem} PRIVATE ${target} conclave_flags)
      target_link_options(${name}_${stem} PRIVATE -fsanitize=fuzzer)
    endforeach()
  endif()

  if(CONCLAVE_BENCHES)
    foreach(bench IN LISTS arg_BENCHES)
      get_filename_component(stem ${bench} NAME_WE)
      add_executable(${name}_${stem} ${bench})
      target_link_libraries(${name}_${stem} PRIVATE ${target} conclave_flags benchmark::benchmark_main)
    endforeach()
  endif()
endfunction()

# conclave_service(): a service is a module, and a program `conclave-<name>` of its main.cpp. Takes
# the arguments of conclave_module.
function(conclave_service name)
  string(REPLACE "-" "_" module ${name})
  conclave_module(${module} ${ARGN})
  conclave_list_files(main.cpp)
  add_executable(conclave-${name} main.cpp)
  target_link_libraries(conclave-${name} PRIVATE conclave_${module} conclave_flags)
endfunction()
