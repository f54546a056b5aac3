#include "conclave/artifacts/store.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "conclave/gguf/writer.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/model/experts.hpp"
#include "testing_origin.hpp"

namespace conclave::artifacts {
namespace {

using base::ErrorCode;
using gguf::ByteRange;
using test::Origin;
namespace fs = std::filesystem;

const fs::path kModels = fs::path(CONCLAVE_SOURCE_DIR) / "tests/golden/models";
const std::string kSum(64, 'a');

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string name = testing::TempDir() + "artifacts_store.XXXXXX";
    settings_.cache = ::mkdtemp(name.data());
    settings_.retries = 1;
  }
  ~StoreTest() override { fs::remove_all(settings_.cache); }

  Store& store() {
    if (!store_) {
      store_ = std::make_unique<Store>(
          settings_, [] { return std::chrono::system_clock::time_point(); }, metrics_,
          telemetry::Logger());
    }
    return *store_;
  }
  void restart() { store_.reset(); }

  double fetched() {
    return metrics_.counter("conclave_artifacts_fetched_bytes_total", "").value();
  }

  static std::string_view text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  Settings settings_;
  telemetry::Metrics metrics_;
  std::unique_ptr<Store> store_;
};

// A model with room between its tensors: one of 4 MiB, and one of 64 KiB behind it.
class FarModel : public StoreTest {
 protected:
  FarModel() {
    const gguf::WriterTensor tensors[] = {
        {"large", {1 << 20}, gguf::BlockType::kF32, std::as_bytes(std::span(large_))},
        {"small", {16 << 10}, gguf::BlockType::kF32, std::as_bytes(std::span(small_))}};
    gguf::Metadata metadata;
    metadata.set("general.architecture", {std::string("llama")});
    const auto bytes = gguf::serialize(metadata, tensors).value();
    file_.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    origin_ = std::make_unique<Origin>(file_);
  }

  const std::string large_ = test::pattern(4 << 20);
  const std::string small_ = test::pattern(64 << 10);
  std::string file_;
  std::unique_ptr<Origin> origin_;
};

TEST_F(StoreTest, OpensAPathAsItIs) {
  const auto model = store().open((kModels / "qwen3moe-f32.gguf").string(), kSum, {}).value();

  EXPECT_EQ(model.image, nullptr);
  EXPECT_GT(model.file.tensors().size(), 0u);
  EXPECT_TRUE(fs::is_empty(settings_.cache));
  EXPECT_EQ(store().open("gopher://x/y", kSum, {}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FarModel, OnlyWhatIsWantedComesOver) {
  const auto model = store().open(origin_->url(), kSum, {}).value();
  const std::uint64_t header = 1 + (256 << 10);
  EXPECT_EQ(origin_->sent(), header);
  const ByteRange small = model.file.find("small")->range;

  ASSERT_TRUE(model.image->fetch({&small, 1}, {}).has_value());

  EXPECT_EQ(text(model.file.bytes(small)), small_);
  EXPECT_EQ(origin_->sent(), header + small.size);
  EXPECT_EQ(fetched(), static_cast<double>(small.size + (256 << 10)));
}

TEST_F(FarModel, TheFileOutlivesItsImage) {
  auto model = store().open(origin_->url(), kSum, {}).value();
  const ByteRange small = model.file.find("small")->range;
  ASSERT_TRUE(model.image->fetch({&small, 1}, {}).has_value());

  model.image.reset();
  restart();

  EXPECT_EQ(text(model.file.bytes(small)), small_);
  EXPECT_TRUE(fs::is_empty(fs::path(settings_.cache) / "tmp"));
}

TEST_F(FarModel, WhatCameOnceIsInTheCache) {
  const auto first = store().open(origin_->url(), kSum, {}).value();
  const ByteRange large = first.file.find("large")->range;
  ASSERT_TRUE(first.image->fetch({&large, 1}, {}).has_value());
  restart();
  origin_->wish({.status = 503});  // from now on it is away

  const auto again = store().open(origin_->url("/another/name.gguf"), kSum, {}).value();
  ASSERT_TRUE(again.image->fetch({&large, 1}, {}).has_value());

  EXPECT_EQ(text(again.file.bytes(large)), large_);
  // But only under its own sum.
  EXPECT_EQ(store().open(origin_->url(), std::string(64, 'b'), {}).error().code,
            ErrorCode::kUnavailable);
}

TEST_F(FarModel, ADamagedCacheIsFetchedAnew) {
  const auto first = store().open(origin_->url(), kSum, {}).value();
  const ByteRange large = first.file.find("large")->range;
  ASSERT_TRUE(first.image->fetch({&large, 1}, {}).has_value());
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(settings_.cache) / "blobs")) {
    if (!entry.is_regular_file()) continue;
    std::fstream blob(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    blob.seekp(0);
    blob.put('?');
  }
  restart();

  const auto again = store().open(origin_->url(), kSum, {}).value();
  ASSERT_TRUE(again.image->fetch({&large, 1}, {}).has_value());

  EXPECT_EQ(text(again.file.bytes(large)), large_);
}

TEST_F(FarModel, RefusedBytesComeAnew) {
  const auto first = store().open(origin_->url(), kSum, {}).value();
  const ByteRange large = first.file.find("large")->range;
  ASSERT_TRUE(first.image->fetch({&large, 1}, {}).has_value());
  first.image->refuse({&large, 1});
  const std::uint64_t sent = origin_->sent();

  const auto again = store().open(origin_->url(), kSum, {}).value();
  ASSERT_TRUE(again.image->fetch({&large, 1}, {}).has_value());

  EXPECT_GE(origin_->sent(), sent + large.size);
}

TEST_F(FarModel, ReleasedBytesGiveTheirRoomBack) {
  const auto model = store().open(origin_->url(), kSum, {}).value();
  const ByteRange large = model.file.find("large")->range;
  const ByteRange small = model.file.find("small")->range;
  ASSERT_TRUE(model.image->fetch(std::array{large, small}, {}).has_value());

  model.image->release({&large, 1});

  const ByteRange middle{0, large.offset + 8192, 4096};
  EXPECT_EQ(text(model.file.bytes(middle)), std::string(4096, '\0'));
  EXPECT_EQ(text(model.file.bytes(small)), small_);
}

TEST_F(FarModel, AServerWithoutRangesGivesAllOfIt) {
  origin_->wish({.ranges = false});

  const auto model = store().open(origin_->url(), "", {}).value();
  const ByteRange small = model.file.find("small")->range;
  ASSERT_TRUE(model.image->fetch({&small, 1}, {}).has_value());

  EXPECT_EQ(text(model.file.bytes(small)), small_);
  EXPECT_EQ(text(model.file.bytes(*model.file.find("large"))), large_);
}

TEST_F(FarModel, AChangedFileIsAnError) {
  const auto model = store().open(origin_->url(), kSum, {}).value();
  const ByteRange small = model.file.find("small")->range;
  origin_->wish({.etag = "\"two\""});

  EXPECT_EQ(model.image->fetch({&small, 1}, {}).error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(FarModel, IsDownloadedInOrderAndOnce) {
  origin_->wish({.breaks_after = 1'000'000, .breaks_left = 3});
  const auto download = store().download(Location::parse(origin_->url()).value(), {}).value();
  ASSERT_EQ(download->parts().size(), 1u);
  EXPECT_EQ(download->parts()[0].etag, "\"one\"");
  EXPECT_EQ(download->parts()[0].size, file_.size());

  ASSERT_TRUE(download->wait({0, 0, file_.size()}).has_value());

  EXPECT_EQ(text(download->file().bytes({0, 0, file_.size()})), file_);
  EXPECT_EQ(fetched(), static_cast<double>(file_.size()));
}

TEST_F(FarModel, ADownloadThatFailsSaysSoForEver) {
  const auto download = store().download(Location::parse(origin_->url()).value(), {}).value();
  origin_->wish({.status = 404});

  EXPECT_EQ(download->wait({0, 1 << 20, 4}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(download->wait({0, 2 << 20, 4}).error().code, ErrorCode::kNotFound);
}

TEST_F(FarModel, ADownloadEndsWhenItIsToldTo) {
  std::atomic<bool> stop = false;
  const auto download =
      store()
          .download(Location::parse(origin_->url()).value(), [&stop] { return stop.load(); })
          .value();
  origin_->wish({.hangs = true});
  stop = true;

  EXPECT_EQ(download->wait({0, 1 << 20, 4}).error().code, ErrorCode::kCancelled);
}

TEST_F(StoreTest, WhatIsNoModelIsRefused) {
  const Origin page("<html>" + std::string(1 << 20, ' '));
  const Origin cut(contents(kModels / "qwen3moe-f32.gguf").substr(0, 1'000));
  const Origin empty("");

  EXPECT_EQ(store().open(page.url(), "", {}).error().code, ErrorCode::kCorruptData);
  EXPECT_LT(page.sent(), 300'000u);
  EXPECT_EQ(store().open(cut.url(), "", {}).error().code, ErrorCode::kCorruptData);
  EXPECT_EQ(store().open(empty.url(), "", {}).error().code, ErrorCode::kCorruptData);
  EXPECT_TRUE(fs::is_empty(fs::path(settings_.cache) / "tmp"));
}

TEST_F(StoreTest, AnExpertOfAnotherVersionIsKnownByItsSum) {
  const fs::path path = kModels / "qwen3moe-f32.gguf";
  const Origin origin(contents(path));
  const gguf::File local = gguf::File::open(path).value();
  const model::ModelConfig config = model::read_config(local).value();
  const auto ranges = model::expert_ranges(local, config, {1, 2}).value();
  const model::Sha256 sum = model::expert_digest(local, config, {1, 2}).value();
  const auto one = store().open(origin.url("/one.gguf"), kSum, {}).value();
  ASSERT_TRUE(one.image->fetch_expert(ranges, sum, {}).has_value());
  EXPECT_EQ(model::expert_digest(one.file, config, {1, 2}).value(), sum);

  const auto two = store().open(origin.url("/two.gguf"), std::string(64, 'b'), {}).value();
  const std::uint64_t sent = origin.sent();
  ASSERT_TRUE(two.image->fetch_expert(ranges, sum, {}).has_value());

  EXPECT_EQ(model::expert_digest(two.file, config, {1, 2}).value(), sum);
  EXPECT_EQ(origin.sent(), sent);
  // One that is not what was recorded comes over, and is not kept.
  ASSERT_TRUE(two.image->fetch_expert(ranges, model::Sha256{7}, {}).has_value());
  ASSERT_TRUE(two.image->fetch_expert(ranges, model::Sha256{7}, {}).has_value());
  EXPECT_GT(origin.sent(), sent);
}

// Serves the parts of a split model, each from an origin of its own behind one address.
TEST_F(StoreTest, AnyPartOpensTheWholeModel) {
  const std::string base = "qwen3moe-split-f32-0000";
  std::map<std::string, std::string> files;
  for (const char* end : {"1-of-00002.gguf", "2-of-00002.gguf"}) {
    files["/m/" + base + end] = contents(kModels / (base + end));
  }
  const auto server = http::Server::start({}, [&](std::shared_ptr<http::Exchange> exchange) {
                        const auto found = files.find(exchange->request().path);
                        if (found == files.end()) return exchange->respond({.status = 404});
                        exchange->respond({.body = found->second});  // all of it, at any time
                      }).value();
  const std::string root = "http://127.0.0.1:" + std::to_string(server->port()) + "/m/" + base;
  const gguf::File local = gguf::File::open(kModels / (base + "1-of-00002.gguf")).value();

  for (const char* end : {"1-of-00002.gguf?x=1", "2-of-00002.gguf"}) {
    const auto model = store().open(root + end, kSum, {});

    ASSERT_TRUE(model.has_value()) << model.error().to_string();
    ASSERT_EQ(model->file.parts().size(), 2u);
    ASSERT_EQ(model->file.tensors().size(), local.tensors().size());
    for (const gguf::TensorInfo& tensor : local.tensors()) {
      ASSERT_TRUE(model->image->fetch({&tensor.range, 1}, {}).has_value());
      EXPECT_EQ(text(model->file.bytes(tensor.range)), text(local.bytes(tensor))) << tensor.name;
    }
  }
  files.erase("/m/" + base + "2-of-00002.gguf");
  EXPECT_EQ(store().open(root + "1-of-00002.gguf", std::string(64, 'c'), {}).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(store().open("http://127.0.0.1:1/x", "", {}).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::artifacts
