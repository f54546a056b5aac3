// The seeds of the fuzzer. Those made by the writer are compared with what it makes now (set
// CONCLAVE_UPDATE_CORPUS to write them); `regression-*` are inputs that once broke something.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "file_walk.hpp"
#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using test::Bytes;

std::filesystem::path corpus() {
  return std::filesystem::path(CONCLAVE_SOURCE_DIR) / "libs/gguf/fuzz/corpus/file";
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes experts_seed() {
  const Bytes data = test::pattern(*bytes_of(BlockType::kQ8_0, 32 * 2 * 4));
  const Bytes bias = test::pattern(8 * 4);
  const WriterTensor tensors[] = {{"blk.0.ffn_up_exps.weight", {32, 2, 4}, BlockType::kQ8_0, data},
                                  {"blk.0.ffn_up_exps.bias", {2, 4}, BlockType::kF32, bias}};
  Metadata metadata;
  metadata.set("general.architecture", {std::string("olmoe")});
  metadata.set("olmoe.expert_count", {std::uint32_t{4}});
  return test::make_file(metadata, tensors);
}

Bytes nested_seed() {
  Value nested{Array(std::vector<std::string>{"deep"})};
  for (int depth = 1; depth < 4; ++depth) {
    nested = Value{Array(std::vector<Value>{nested, nested})};
  }
  Metadata metadata;
  metadata.set("nested", nested);
  return test::make_file(metadata);
}

Bytes alignment_seed(std::byte version) {
  const Bytes data = test::pattern(16);
  const WriterTensor tensors[] = {{"a", {4}, BlockType::kF32, data},
                                  {"b", {2, 1, 1, 2}, BlockType::kF32, data}};
  Metadata metadata;
  metadata.set("general.alignment", {std::uint32_t{64}});
  Bytes bytes = test::make_file(metadata, tensors);
  bytes[4] = version;
  return bytes;
}

std::map<std::string, Bytes> seeds() {
  std::vector<Bytes> data;
  const auto tensors = test::every_block_type(data);
  return {{"alignment.gguf", alignment_seed(std::byte{3})},
          {"block-types.gguf", test::make_file({}, tensors)},
          {"empty.gguf", test::make_file({})},
          {"experts.gguf", experts_seed()},
          {"nested.gguf", nested_seed()},
          {"split-part.gguf", test::make_file(test::split_metadata(1, 3, 3))},
          {"value-types.gguf", test::make_file(test::every_value_type())},
          {"version-2.gguf", alignment_seed(std::byte{2})}};
}

TEST(FileCorpusTest, SeedsAreWhatTheWriterMakes) {
  for (const auto& [name, bytes] : seeds()) {
    const auto path = corpus() / name;
    if (std::getenv("CONCLAVE_UPDATE_CORPUS") != nullptr) {
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
    EXPECT_EQ(read_file(path), bytes) << path;
  }
}

TEST(FileCorpusTest, EveryInputIsWalkedOrRefused) {
  std::size_t parsed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus())) {
    SCOPED_TRACE(entry.path());
    if (test::parse_and_walk(read_file(entry.path()))) ++parsed;
  }
  EXPECT_GE(parsed, seeds().size() - 1);  // all but the part of a split model
}

// Published or reference models that are not in this repository, when the caller has some: every
// file opens and decodes, and where a model is there as NAME-f32 and as NAME-q8_0, -q4_0 or -f16,
// our quantisers make the same bytes as whoever made the file.
TEST(GoldenFilesTest, OpenDecodeAndQuantiseTheSame) {
  const char* directory = std::getenv("CONCLAVE_GOLDEN_DIR");
  if (directory == nullptr) GTEST_SKIP() << "CONCLAVE_GOLDEN_DIR is not set";
  std::size_t files = 0;
  std::size_t compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path());
    ++files;
    const auto file = File::open(entry.path());
    ASSERT_TRUE(file) << file.error().to_string();
    const std::string name = entry.path().filename().string();
    const auto original =
        File::open(entry.path().parent_path() / (name.substr(0, name.rfind('-')) + "-f32.gguf"));
    for (const TensorInfo& tensor : file->tensors()) {
      std::vector<float> values(tensor.elements());
      dequantize(tensor.type, file->bytes(tensor), values);
      const TensorInfo* from = original ? original->find(tensor.name) : nullptr;
      if (from == nullptr || from->shape != tensor.shape || tensor.type == from->type) continue;
      dequantize(from->type, original->bytes(*from), values);
      Bytes ours(file->bytes(tensor).size());
      if (!quantize(tensor.type, values, ours)) continue;
      const auto theirs = file->bytes(tensor);
      EXPECT_TRUE(std::equal(ours.begin(), ours.end(), theirs.begin())) << tensor.name;
      ++compared;
    }
  }
  RecordProperty("files", static_cast<int>(files));
  RecordProperty("compared", static_cast<int>(compared));
  EXPECT_GT(files, 0u) << "no *.gguf in " << directory;
}

}  // namespace
}  // namespace conclave::gguf
