// Image over files with holes, one for each part of the model.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache.hpp"
#include "conclave/artifacts/image.hpp"
#include "conclave/artifacts/location.hpp"
#include "conclave/telemetry/log.hpp"
#include "source.hpp"

namespace conclave::artifacts {

/// What the images of a store share; must outlive them.
struct ImageContext {
  SourceContext& sources;
  Cache& cache;
  telemetry::Counter& cached_bytes;
  telemetry::Logger log;
};

class SparseImage : public Image {
 public:
  ~SparseImage() override;

  /// With the headers of all parts. See Store::open.
  static base::Result<std::unique_ptr<SparseImage>> open(const ImageContext& context,
                                                         const Location& location,
                                                         std::string_view sha256, const Stop& stop);

  /// The model behind it. The files lose their names: called once.
  base::Result<gguf::File> open_file();

  base::Status fetch(std::span<const gguf::ByteRange> ranges, const Stop& stop) override;
  base::Status fetch_expert(std::span<const gguf::ByteRange> ranges, const model::Sha256& sum,
                            const Stop& stop) override;
  void refuse(std::span<const gguf::ByteRange> ranges) override;
  void release(std::span<const gguf::ByteRange> ranges) override;

  /// Bytes [from, size) of a part from where the model is, in order; `came(offset)` after each
  /// piece: all before it is there.
  using Came = std::function<void(std::uint64_t offset)>;
  base::Status fill(std::uint32_t part, std::uint64_t from, const Came& came, const Stop& stop);

  [[nodiscard]] std::size_t parts() const { return parts_.size(); }
  [[nodiscard]] const Location& location(std::uint32_t part) const;
  [[nodiscard]] std::uint64_t size(std::uint32_t part) const;
  /// So many of the first bytes of a part came with its header.
  [[nodiscard]] std::uint64_t header_bytes(std::uint32_t part) const;
  /// See Source::etag(). May have to ask.
  base::Result<std::string> etag(std::uint32_t part, const Stop& stop);

 private:
  struct Part;

  SparseImage(const ImageContext& context, std::string_view sha256, Scratch scratch);

  base::Status add_part(const Location& location, const Stop& stop);
  base::Result<std::uint64_t> find_size(Part& part, const Stop& stop);
  base::Status fetch_header(Part& part, const Stop& stop);
  base::Result<Source*> source(Part& part, const Stop& stop);
  base::Status run(const std::vector<gguf::ByteRange>& pieces,
                   const std::function<base::Status(const gguf::ByteRange&)>& fetch_one) const;
  base::Status fetch_piece(const gguf::ByteRange& piece, const Stop& stop);
  base::Status read(const gguf::ByteRange& piece, const Stop& stop);
  base::Status bring(Part& part, const Source& source, std::uint64_t offset, std::uint64_t size,
                     const Came& came, const Stop& stop);
  bool take_cached(std::span<const gguf::ByteRange> ranges, const model::Sha256& sum);
  void keep(std::span<const gguf::ByteRange> ranges, const model::Sha256& sum,
            std::string_view name);
  [[nodiscard]] std::string name_of(const Part& part, std::uint64_t offset,
                                    std::uint64_t size) const;
  [[nodiscard]] std::vector<FileRange> in_files(std::span<const gguf::ByteRange> ranges) const;

  const ImageContext context_;
  const std::string sha256_;
  std::optional<Scratch> scratch_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::uint32_t given_ = 0;  // the part that was asked for
};

}  // namespace conclave::artifacts
