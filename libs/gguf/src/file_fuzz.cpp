// libFuzzer entry: any bytes either make a file that can be walked whole or a printable error.
// Seeds: fuzz/corpus/file, kept by file_corpus_test.cpp.
#include "file_walk.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  conclave::gguf::test::parse_and_walk(std::as_bytes(std::span(data, size)));
  return 0;
}
