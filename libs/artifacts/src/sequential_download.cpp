#include "sequential_download.hpp"

#include <utility>

namespace conclave::artifacts {

using base::Result;
using base::Status;
using gguf::ByteRange;

namespace {

// Room is given back in steps of so much: a call of the system each.
constexpr std::uint64_t kReleaseBytes = std::uint64_t{16} << 20;

}  // namespace

Result<std::unique_ptr<Download>> SequentialDownload::open(std::unique_ptr<SparseImage> image,
                                                           Stop stop) {
  std::vector<Part> parts;
  for (std::uint32_t i = 0; i < image->parts(); ++i) {
    CONCLAVE_TRY(std::string etag, image->etag(i, stop));
    parts.push_back({image->location(i).text(), image->size(i), std::move(etag)});
  }
  CONCLAVE_TRY(gguf::File file, image->open_file());
  return std::unique_ptr<Download>(
      new SequentialDownload(std::move(image), std::move(file), std::move(parts), std::move(stop)));
}

SequentialDownload::SequentialDownload(std::unique_ptr<SparseImage> image, gguf::File file,
                                       std::vector<Part> parts, Stop stop)
    : image_(std::move(image)),
      file_(std::move(file)),
      parts_(std::move(parts)),
      stop_(std::move(stop)),
      released_(parts_.size(), 0) {
  for (std::uint32_t i = 0; i < parts_.size(); ++i) there_.push_back(image_->header_bytes(i));
}

SequentialDownload::~SequentialDownload() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool SequentialDownload::is_stopped() {
  {
    const std::lock_guard lock(mutex_);
    if (ends_) return true;
  }
  return stop_ && stop_();
}

void SequentialDownload::work() {
  for (std::uint32_t part = 0; part < parts_.size(); ++part) {
    const auto came = [this, part](std::uint64_t offset) {
      const std::lock_guard lock(mutex_);
      there_[part] = offset;
      news_.notify_all();
    };
    Status done =
        image_->fill(part, image_->header_bytes(part), came, [this] { return is_stopped(); });
    if (done) continue;
    const std::lock_guard lock(mutex_);
    outcome_ = std::move(done);
    news_.notify_all();
    return;
  }
}

Status SequentialDownload::wait(const ByteRange& range) {
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  news_.wait(lock, [&] { return !outcome_ || there_[range.part] >= range.offset + range.size; });
  return outcome_;
}

void SequentialDownload::passed(std::uint32_t part, std::uint64_t offset) {
  std::vector<ByteRange> gone;
  {
    const std::lock_guard lock(mutex_);
    for (std::uint32_t i = 0; i <= part && i < parts_.size(); ++i) {
      const std::uint64_t end = i < part ? parts_[i].size : offset;
      const std::uint64_t step = end / kReleaseBytes * kReleaseBytes;
      if (step <= released_[i]) continue;
      gone.push_back({i, released_[i], step - released_[i]});
      released_[i] = step;
    }
  }
  image_->release(gone);
}

}  // namespace conclave::artifacts
