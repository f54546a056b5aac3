// Download over a SparseImage: a thread that fetches the parts in order.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "conclave/artifacts/download.hpp"
#include "conclave/artifacts/stop.hpp"
#include "sparse_image.hpp"

namespace conclave::artifacts {

class SequentialDownload : public Download {
 public:
  static base::Result<std::unique_ptr<Download>> open(std::unique_ptr<SparseImage> image,
                                                      Stop stop);
  ~SequentialDownload() override;

  [[nodiscard]] const gguf::File& file() const override { return file_; }
  [[nodiscard]] const std::vector<Part>& parts() const override { return parts_; }
  base::Status wait(const gguf::ByteRange& range) override;
  void passed(std::uint32_t part, std::uint64_t offset) override;

 private:
  SequentialDownload(std::unique_ptr<SparseImage> image, gguf::File file, std::vector<Part> parts,
                     Stop stop);

  void work();
  [[nodiscard]] bool is_stopped();

  const std::unique_ptr<SparseImage> image_;
  const gguf::File file_;
  const std::vector<Part> parts_;
  const Stop stop_;

  std::mutex mutex_;  // guards all that follows
  std::condition_variable news_;
  std::vector<std::uint64_t> there_;     // bytes of each part, from its first
  std::vector<std::uint64_t> released_;  // likewise
  base::Status outcome_;
  bool ends_ = false;
  std::thread thread_;  // none before the first wait()
};

}  // namespace conclave::artifacts
