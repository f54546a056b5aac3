// The bytes of a model that is elsewhere, as far as they are wanted: behind a gguf::File that has
// all of its header and holes where nothing was fetched. Holes read as zeros: whoever reads a
// tensor fetches it before, and checks what it reads against the recorded sums as if it came from a
// disk.
#pragma once

#include <span>

#include "conclave/artifacts/stop.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/digest.hpp"

namespace conclave::artifacts {

/// Made by Store::open, beside the file, which may outlive it. Any thread; fetches run beside each
/// other. The image has no name on the disk and is gone with its process.
class Image {
 public:
  virtual ~Image() = default;

  /// Brings the bytes of the ranges, of the local cache or from where the model is, over several
  /// connections. kUnavailable: neither has them now, or the disk is full; kFailedPrecondition: the
  /// file is another one by now; kNotFound: it is gone; kCancelled.
  virtual base::Status fetch(std::span<const gguf::ByteRange> ranges, const Stop& stop) = 0;

  /// The same for an expert, whose bytes are those of `ranges` one after the other: the cache knows
  /// them by their sum, whichever version they belong to. A sum of zeros: nobody knows it. Bytes
  /// with another sum are brought but not kept; refusing them is the loader's part.
  virtual base::Status fetch_expert(std::span<const gguf::ByteRange> ranges,
                                    const model::Sha256& sum, const Stop& stop) = 0;

  /// The bytes of the ranges of a fetch() are not what was recorded: the cache forgets them.
  virtual void refuse(std::span<const gguf::ByteRange> ranges) = 0;

  /// Lets go of bytes that were read: their room on the disk is free, and they are zeros, but for
  /// parts of pages. Only advice.
  virtual void release(std::span<const gguf::ByteRange> ranges) = 0;
};

}  // namespace conclave::artifacts
