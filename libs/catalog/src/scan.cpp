#include "conclave/catalog/scan.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/catalog/records.hpp"
#include "conclave/catalog/reference.hpp"
#include "conclave/catalog/sum_store.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

// Between two looks at `progress`, and how far ahead the kernel is asked to read: long enough for a
// disk, short enough (some 10 ms of summing) for whoever waits for a cancel.
constexpr std::uint64_t kChunkBytes = std::uint64_t{16} << 20;

// Asks for pages before they are touched. Only advice: whatever comes of it, the bytes are there.
void read_ahead(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(bytes.data()) + bytes.size();
  ::posix_madvise(reinterpret_cast<void*>(start), end - start, POSIX_MADV_WILLNEED);
}

// Text of the file that is shown and kept as it is. What is no text, or longer than anybody would
// write, is as if it were not there: nothing rests on it.
std::string text_of(const gguf::File& file, std::string_view key, std::size_t bytes_max) {
  const auto text = file.metadata().get_or<std::string>(key, "");
  const bool is_text = text && text->size() <= bytes_max && base::utf8::valid(*text) &&
                       text->find('\0') == std::string::npos;
  return is_text ? *text : std::string();
}

Status check_limits(const model::ModelConfig& config) {
  const std::uint64_t all = std::uint64_t{config.layers} * config.gate.experts;
  if (config.layers <= wire::kLayersMax && config.gate.experts <= wire::kExpertsMax &&
      all <= wire::kAllExpertsMax) {
    return {};
  }
  return fail(ErrorCode::kUnimplemented,
              std::to_string(config.layers) + " layers of " + std::to_string(config.gate.experts) +
                  " experts are more than messages can say (" + std::to_string(wire::kLayersMax) +
                  " layers, " + std::to_string(wire::kExpertsMax) + " experts, " +
                  std::to_string(wire::kAllExpertsMax) + " together)");
}

// "Q8_0, F32", most bytes first.
std::string block_types(const gguf::File& file) {
  std::map<gguf::BlockType, std::uint64_t> bytes;
  for (const gguf::TensorInfo& tensor : file.tensors()) bytes[tensor.type] += tensor.range.size;
  std::vector<std::pair<gguf::BlockType, std::uint64_t>> sorted(bytes.begin(), bytes.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [type, size] : sorted) {
    text += (text.empty() ? "" : ", ") + std::string(gguf::traits(type).name);
  }
  return text;
}

// What is summed in one go: a tensor of the backbone, or an expert.
struct Item {
  std::uint32_t part = 0;
  std::uint64_t offset = 0;  // of its first byte
  const gguf::TensorInfo* tensor = nullptr;
  model::ExpertId expert;
};

// Part and offset.
using Place = std::pair<std::uint32_t, std::uint64_t>;

class Scanner {
 public:
  Scanner(const gguf::File& file, const model::ModelConfig& config, const ScanProgress& progress,
          const SumStore* known, const ScanFeed* feed)
      : file_(file), config_(config), progress_(progress), known_(known), feed_(feed) {}

  Result<ModelScan> run() {
    describe();
    CONCLAVE_TRY(const std::vector<Item> items, plan());
    if (known_ == nullptr || (feed_ != nullptr && feed_->stamps.empty())) {
      CONCLAVE_TRY_VOID(sum(items));
      return std::move(scan_);
    }
    CONCLAVE_TRY(const std::vector<FileStamp> before, stamps());
    if (auto sums = known_->find(before, scan_.digests.expert.size())) {
      scan_.record.model.sha256 = std::move(sums->file);
      scan_.digests.backbone = sums->backbone;
      scan_.digests.expert = std::move(sums->expert);
      return std::move(scan_);
    }
    CONCLAVE_TRY_VOID(sum(items));
    // What cannot be kept is summed again next time, and that is all.
    if (const auto after = stamps(); after && *after == before) {
      scan_.kept = known_->keep(
          before, {scan_.record.model.sha256, scan_.digests.backbone, scan_.digests.expert});
    }
    return std::move(scan_);
  }

 private:
  Result<std::vector<FileStamp>> stamps() const {
    if (feed_ != nullptr) return feed_->stamps;
    std::vector<FileStamp> stamps;
    for (const gguf::File::Part& part : file_.parts()) {
      CONCLAVE_TRY(FileStamp stamp, FileStamp::of(part.path));
      stamps.push_back(std::move(stamp));
    }
    return stamps;
  }

  Status sum(const std::vector<Item>& items) {
    Status whole;
    Status contents;
    base::ThreadPool pool(2);
    pool.for_each(2, [&](std::size_t task, unsigned) {
      if (task == 0) {
        whole = sum_file();
      } else {
        contents = sum_contents(items);
      }
    });
    CONCLAVE_TRY_VOID(contents);  // first: its failure stops the other, not the reverse
    return whole;
  }

  void describe() {
    wire::ModelRecord& record = scan_.record;
    record.architecture = config_.architecture->name;
    record.block_types = block_types(file_);
    for (const gguf::TensorInfo& tensor : file_.tensors()) record.parameters += tensor.elements();
    for (const gguf::File::Part& part : file_.parts()) record.bytes += part.size;
    record.context_length = config_.context_length;
    record.layers = config_.layers;
    record.dense_layers = config_.dense_layers;
    record.experts = config_.gate.experts;
    record.experts_used = config_.gate.used;
    scan_.digests.layers = config_.layers;
    scan_.digests.experts = config_.gate.experts;
    scan_.digests.expert.resize(std::size_t{config_.layers} * config_.gate.experts);
  }

  // In the order of the file, so that both threads are in the same place most of the time: the
  // experts of a layer are beside each other, whatever the order of their tensors.
  Result<std::vector<Item>> plan() {
    CONCLAVE_TRY(const auto backbone, model::backbone_tensors(file_, config_));
    std::vector<Item> items;
    for (const gguf::TensorInfo* tensor : backbone) {
      items.push_back({tensor->range.part, tensor->range.offset, tensor, {}});
      scan_.record.backbone_bytes += tensor->range.size;
    }
    for (std::uint32_t layer = config_.dense_layers; layer < config_.layers; ++layer) {
      for (std::uint32_t index = 0; index < config_.gate.experts; ++index) {
        CONCLAVE_TRY(const auto ranges, model::expert_ranges(file_, config_, {layer, index}));
        std::uint64_t bytes = 0;
        Item item{ranges.front().part, ranges.front().offset, nullptr, {layer, index}};
        for (const gguf::ByteRange& range : ranges) {
          bytes += range.size;
          std::tie(item.part, item.offset) =
              std::min(std::tuple(item.part, item.offset), std::tuple(range.part, range.offset));
        }
        scan_.record.expert_bytes = std::max(scan_.record.expert_bytes, bytes);
        items.push_back(item);
      }
    }
    std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
      return std::tie(a.part, a.offset) < std::tie(b.part, b.offset);
    });
    return items;
  }

  Status sum_file() {
    model::Sha256Hasher hasher;
    std::uint64_t done = 0;
    const auto parts = file_.parts();
    for (std::uint32_t part = 0; part < parts.size(); ++part) {
      for (std::uint64_t offset = 0; offset < parts[part].size; offset += kChunkBytes) {
        const auto chunk = [&](std::uint64_t from) {
          const std::uint64_t start = std::min(from, parts[part].size);
          return file_.bytes({part, start, std::min(kChunkBytes, parts[part].size - start)});
        };
        const auto bytes = chunk(offset);
        CONCLAVE_TRY_VOID(wait({part, offset, bytes.size()}));
        if (feed_ == nullptr) read_ahead(chunk(offset + kChunkBytes));
        hasher.update(bytes);
        // The other thread is somewhere near, and lets go of nothing.
        if (offset != 0) file_.forget({part, offset - kChunkBytes, kChunkBytes});
        done += bytes.size();
        pass(whole_, {part, offset + bytes.size()});
        if (progress_ && !progress_(done, scan_.record.bytes)) stop_ = true;
        if (stop_) return cancelled();
      }
    }
    scan_.record.model.sha256 = model::to_hex(hasher.finish());
    return {};
  }

  Status sum_contents(const std::vector<Item>& items) {
    model::Sha256Hasher backbone;
    for (const Item& item : items) {
      if (stop_) return cancelled();
      pass(contents_, {item.part, item.offset});
      CONCLAVE_TRY_VOID(wait_for(item));
      if (item.tensor != nullptr) {
        backbone.update(file_.bytes(*item.tensor));
        continue;
      }
      const auto sum = model::expert_digest(file_, config_, item.expert);
      if (!sum) {
        stop_ = true;
        return fail(sum.error());
      }
      const std::size_t at = std::size_t{item.expert.layer} * config_.gate.experts;
      scan_.digests.expert[at + item.expert.index] = *sum;
    }
    scan_.digests.backbone = backbone.finish();
    pass(contents_, {static_cast<std::uint32_t>(file_.parts().size()), 0});
    return {};
  }

  // ---- bytes that come meanwhile

  Status wait(const gguf::ByteRange& range) const {
    return feed_ == nullptr ? Status() : feed_->wait(range);
  }

  Status wait_for(const Item& item) const {
    if (feed_ == nullptr) return {};
    if (item.tensor != nullptr) return feed_->wait(item.tensor->range);
    CONCLAVE_TRY(const auto ranges, model::expert_ranges(file_, config_, item.expert));
    for (const gguf::ByteRange& range : ranges) CONCLAVE_TRY_VOID(feed_->wait(range));
    return {};
  }

  // One of the two sums is at this place.
  void pass(Place& own, Place place) {
    if (feed_ == nullptr) return;
    const std::lock_guard lock(mutex_);
    own = place;
    const Place behind = std::min(whole_, contents_);
    feed_->passed(behind.first, behind.second);
  }

  static Status cancelled() { return fail(ErrorCode::kCancelled, "reading was cancelled"); }

  const gguf::File& file_;
  const model::ModelConfig& config_;
  const ScanProgress& progress_;
  const SumStore* known_;
  const ScanFeed* feed_;  // null: all bytes are there
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;  // guards the next two: where the sums of the file and of its contents are
  Place whole_{0, 0};
  Place contents_{0, 0};
  ModelScan scan_;
};

Result<ModelScan> scan(const gguf::File& file, const std::filesystem::path& path, std::string name,
                       const ScanProgress& progress, const SumStore* known, const ScanFeed* feed) {
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY_VOID(check_limits(config));
  if (name.empty()) {
    CONCLAVE_TRY(name, derive_name(config.name, path));
  }
  CONCLAVE_TRY(ModelScan scan, Scanner(file, config, progress, known, feed).run());
  scan.licence = text_of(file, "general.license", kTextBytesMax);
  scan.chat_template = text_of(file, "tokenizer.chat_template", kTemplateBytesMax);
  scan.record.model.name = name;
  scan.digests.model.name = std::move(name);
  return scan;
}

}  // namespace

Result<ModelScan> scan_model(const std::filesystem::path& path, std::string name,
                             const ScanProgress& progress, const SumStore* known) {
  if (!name.empty()) CONCLAVE_TRY_VOID(check_name("model name", name));
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(path));
  return scan(file, path, std::move(name), progress, known, nullptr);
}

Result<ModelScan> scan_model(const ScanFeed& feed, std::string name, const ScanProgress& progress,
                             const SumStore* known) {
  if (!name.empty()) CONCLAVE_TRY_VOID(check_name("model name", name));
  return scan(feed.file, feed.file_name, std::move(name), progress, known, &feed);
}

}  // namespace conclave::catalog
