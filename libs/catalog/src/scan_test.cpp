#include "conclave/catalog/scan.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>

#include "conclave/catalog/sum_store.hpp"
#include "conclave/gguf/header.hpp"
#include "conclave/gguf/writer.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;

std::string golden(const std::string& name) {
  return std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/models/" + name;
}

std::string demo() { return std::string(CONCLAVE_SOURCE_DIR) + "/models/demo/conclave-demo.gguf"; }

model::Sha256 sum_of(std::span<const std::byte> bytes) {
  model::Sha256Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::vector<std::byte> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

TEST(ScanModelTest, ReadsAFileThatHasNotChangedOnlyOnce) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "conclave-scan-known";
  fs::remove_all(folder);
  fs::create_directories(folder);
  const std::string part = "qwen3moe-split-f32-0000";
  for (const char* rest : {"1-of-00002.gguf", "2-of-00002.gguf"}) {
    fs::copy_file(golden(part + rest), folder / (part + rest));
  }
  const fs::path path = folder / (part + "1-of-00002.gguf");
  const SumStore known(folder / "sums");
  std::uint64_t read = 0;
  const ScanProgress progress = [&read](std::uint64_t done, std::uint64_t) {
    read = done;
    return true;
  };

  const auto first = scan_model(path, "m", progress, &known).value();
  EXPECT_TRUE(first.kept) << first.kept.error().to_string();
  EXPECT_EQ(read, first.record.bytes);
  read = 0;
  const auto second = scan_model(path, "n", progress, &known).value();
  EXPECT_EQ(read, 0u);
  EXPECT_EQ(second.record.model.name, "n");
  EXPECT_EQ(second.record.model.sha256, first.record.model.sha256);
  EXPECT_EQ(second.record.backbone_bytes, first.record.backbone_bytes);
  EXPECT_EQ(second.digests.backbone, first.digests.backbone);
  EXPECT_EQ(second.digests.expert, first.digests.expert);

  // One byte of the second part.
  {
    std::fstream file(folder / (part + "2-of-00002.gguf"),
                      std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-1, std::ios::end);
    file.put('!');
  }
  const auto third = scan_model(path, "m", progress, &known).value();
  EXPECT_EQ(read, third.record.bytes);
  EXPECT_NE(third.record.model.sha256, first.record.model.sha256);
  fs::remove_all(folder);
}

TEST(ScanModelTest, SumsTheWholeFileTheBackboneAndEveryExpert) {
  for (const std::string& path :
       {demo(), golden("deepseek2-v3-f32.gguf"), golden("gpt-oss-mxfp4.gguf")}) {
    const gguf::File file = gguf::File::open(path).value();
    const model::ModelConfig config = model::read_config(file).value();
    std::vector<std::byte> backbone;
    const auto tensors = model::backbone_tensors(file, config).value();
    for (const auto* tensor : tensors) {
      const auto bytes = file.bytes(*tensor);
      backbone.insert(backbone.end(), bytes.begin(), bytes.end());
    }

    const auto scan = scan_model(path, "m", {});

    ASSERT_TRUE(scan) << scan.error().to_string();
    EXPECT_EQ(scan->record.model.sha256, model::to_hex(sum_of(contents(path)))) << path;
    EXPECT_EQ(scan->digests.backbone, sum_of(backbone)) << path;
    ASSERT_EQ(scan->digests.expert.size(), std::size_t{config.layers} * config.gate.experts);
    for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
      for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
        const auto expected = config.has_experts(layer)
                                  ? model::expert_digest(file, config, {layer, index}).value()
                                  : model::Sha256{};
        EXPECT_EQ(scan->digests.expert[layer * config.gate.experts + index], expected);
      }
    }
  }
}

TEST(ScanModelTest, DescribesTheDemoModel) {
  const auto scan = scan_model(demo(), "", {});

  ASSERT_TRUE(scan) << scan.error().to_string();
  const wire::ModelRecord& record = scan->record;
  EXPECT_EQ(record.model.name, "conclave-demo");
  EXPECT_EQ(record.bytes, std::filesystem::file_size(demo()));
  EXPECT_GT(record.parameters, 3'000'000u);
  EXPECT_TRUE(record.block_types.starts_with("Q8_0")) << record.block_types;
  EXPECT_EQ(record.layers, scan->digests.layers);
  EXPECT_EQ(record.experts, scan->digests.experts);
  const std::uint64_t experts = std::uint64_t{record.layers - record.dense_layers} * record.experts;
  EXPECT_LT(record.backbone_bytes + experts * record.expert_bytes, record.bytes);
  EXPECT_GT(record.backbone_bytes + experts * record.expert_bytes, record.bytes * 9 / 10);
}

// The same model in one file and in two parts: another whole, the same backbone and experts.
TEST(ScanModelTest, PartsAreSummedInOrderWhicheverIsNamed) {
  const std::string folder = testing::TempDir() + "scan_test." + std::to_string(::getpid());
  std::filesystem::create_directory(folder);
  const gguf::File file = gguf::File::open(golden("qwen3moe-f32.gguf")).value();
  std::vector<gguf::WriterTensor> tensors;
  for (const auto& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.shape, tensor.type, file.bytes(tensor)});
  }
  const auto middle = tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() / 2);
  const std::vector<gguf::WriterTensor> halves[] = {{tensors.begin(), middle},
                                                    {middle, tensors.end()}};
  std::vector<std::byte> joined;
  for (std::uint16_t part = 0; part < 2; ++part) {
    gguf::Metadata metadata = part == 0 ? file.metadata() : gguf::Metadata();
    metadata.set("split.no", {part});
    metadata.set("split.count", {std::uint16_t{2}});
    metadata.set("split.tensors.count", {static_cast<std::int32_t>(tensors.size())});
    const std::string path = folder + "/m-0000" + std::to_string(part + 1) + "-of-00002.gguf";
    ASSERT_TRUE(gguf::write(path, metadata, halves[part]));
    const auto bytes = contents(path);
    joined.insert(joined.end(), bytes.begin(), bytes.end());
  }

  const auto whole = scan_model(golden("qwen3moe-f32.gguf"), "m", {}).value();
  for (const char* part : {"/m-00001-of-00002.gguf", "/m-00002-of-00002.gguf"}) {
    const auto split = scan_model(folder + part, "m", {});
    ASSERT_TRUE(split) << split.error().to_string();
    EXPECT_EQ(split->record.model.sha256, model::to_hex(sum_of(joined)));
    EXPECT_EQ(split->record.bytes, joined.size());
    EXPECT_EQ(split->digests, whole.digests);
  }
  std::filesystem::remove_all(folder);
}

TEST(ScanModelTest, ReportsProgressUpToTheSize) {
  std::uint64_t last = 0;
  const auto scan = scan_model(demo(), "m", [&last](std::uint64_t done, std::uint64_t total) {
    EXPECT_GT(done, last);
    EXPECT_LE(done, total);
    last = done;
    return true;
  });
  ASSERT_TRUE(scan);
  EXPECT_EQ(last, scan->record.bytes);
}

TEST(ScanModelTest, EndsWhenItIsToldTo) {
  const auto scan = scan_model(demo(), "m", [](std::uint64_t, std::uint64_t) { return false; });
  ASSERT_FALSE(scan);
  EXPECT_EQ(scan.error().code, ErrorCode::kCancelled);
}

TEST(ScanModelTest, RefusesWhatIsNoModelOrHasNoName) {
  EXPECT_EQ(scan_model("/no/such/model.gguf", "", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(scan_model(demo(), "Not A Name", {}).error().code, ErrorCode::kInvalidArgument);
  const auto text = scan_model(std::string(CONCLAVE_SOURCE_DIR) + "/README.md", "m", {});
  EXPECT_EQ(text.error().code, ErrorCode::kCorruptData);
}

// A model that comes from far away: its header is there, the rest only once somebody waited for it,
// and what was passed is gone.
class FarModel {
 public:
  explicit FarModel(const std::string& path)
      : all_(read(path)),
        path_(testing::TempDir() + "far." + std::to_string(::getpid()) + ".gguf"),
        there_(gguf::read_header(std::as_bytes(std::span(all_)), all_.size()).value()->bytes) {
    std::ofstream(path_, std::ios::binary).write(all_.data(), static_cast<std::streamsize>(there_));
    std::filesystem::resize_file(path_, all_.size());
    file_.emplace(gguf::File::open(path_).value());
  }
  ~FarModel() { std::filesystem::remove(path_); }

  base::Result<ModelScan> scan(const ScanProgress& progress = {}, const SumStore* known = nullptr) {
    const ScanFeed feed{*file_, "far-model.gguf", stamps,
                        [this](const gguf::ByteRange& range) { return wait(range); },
                        [this](std::uint32_t, std::uint64_t offset) { pass(offset); }};
    return scan_model(feed, "m", progress, known);
  }

  std::vector<FileStamp> stamps;
  std::uint64_t breaks_at = ~std::uint64_t{0};
  std::uint64_t waited = 0;
  std::uint64_t passed = 0;

 private:
  static std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  base::Status wait(const gguf::ByteRange& range) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t end = range.offset + range.size;
    ++waited;
    if (end > breaks_at) return base::fail(ErrorCode::kUnavailable, "the line is dead");
    if (end > there_) write(there_, std::string_view(all_).substr(there_, end - there_));
    there_ = std::max(there_, end);
    return {};
  }

  void pass(std::uint64_t offset) {
    const std::lock_guard lock(mutex_);
    EXPECT_GE(offset, passed);
    write(passed, std::string(offset - passed, '!'));
    passed = offset;
  }

  void write(std::uint64_t offset, std::string_view bytes) {
    std::fstream out(path_, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  const std::string all_;
  const std::string path_;
  std::mutex mutex_;  // guards the rest
  std::uint64_t there_;
  std::optional<gguf::File> file_;
};

TEST(ScanFeedTest, GivesTheSameSumsAsAFileThatIsHere) {
  for (const char* name : {"qwen3moe-f32.gguf", "qwen3moe-fused-f32.gguf", "gpt-oss-mxfp4.gguf",
                           "llama-split-experts-f32.gguf"}) {
    const auto here = scan_model(golden(name), "m", {}).value();
    FarModel far(golden(name));

    const auto scan = far.scan();

    ASSERT_TRUE(scan.has_value()) << scan.error().to_string();
    EXPECT_EQ(scan->record, here.record) << name;
    EXPECT_EQ(scan->digests, here.digests) << name;
    // All of it was let go of: one of the sums may only be heard of at its end.
    EXPECT_GT(far.passed, here.record.bytes / 2) << name;
  }
}

TEST(ScanFeedTest, ALineThatBreaksIsTheScansError) {
  FarModel far(golden("qwen3moe-f32.gguf"));
  far.breaks_at = 100'000;

  const auto scan = far.scan();

  EXPECT_EQ(scan.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(scan.error().message, "the line is dead");
}

TEST(ScanFeedTest, AStateThatIsKnownIsNotFetched) {
  const std::string folder = testing::TempDir() + "far_sums." + std::to_string(::getpid());
  const SumStore known(folder);
  FarModel far(golden("qwen3moe-f32.gguf"));
  far.stamps = {{.path = "http://host/m.gguf\n\"1\"", .size = 5}};
  const auto first = far.scan({}, &known).value();
  FarModel again(golden("qwen3moe-f32.gguf"));
  again.stamps = far.stamps;

  EXPECT_EQ(again.scan({}, &known).value().digests, first.digests);
  EXPECT_EQ(again.waited, 0u);

  FarModel changed(golden("qwen3moe-f32.gguf"));
  changed.stamps = {{.path = "http://host/m.gguf\n\"2\"", .size = 5}};
  EXPECT_EQ(changed.scan({}, &known).value().digests, first.digests);
  EXPECT_GT(changed.waited, 0u);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace conclave::catalog
