// What there is to know about a GGUF file, all of it read from the file: its numbers and the sums
// of its bytes. The catalog records it; nothing here knows of databases.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::catalog {

/// A file before it has a version: `record.model` and `digests.model` have no version and no URI
/// yet, and there are neither aliases nor a date.
struct ModelScan {
  wire::ModelRecord record;
  wire::ModelDigests digests;
  std::string licence;        // `general.license`; empty: the file does not say
  std::string chat_template;  // `tokenizer.chat_template`; empty: it has none
  base::Status kept;          // why a SumStore did not take the sums
};

/// Called now and then, on one of the threads of the scan, with the bytes of the whole-file sum.
/// False ends the scan with kCancelled.
using ScanProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

class SumStore;
struct FileStamp;

/// A model whose bytes come while it is read. Both functions are called on the scan's threads.
struct ScanFeed {
  const gguf::File& file;
  std::string file_name;                 // a name is derived from it, if the file has none
  const std::vector<FileStamp>& stamps;  // of its parts; empty: nothing tells states of it apart
  /// Waits until the bytes are there; its error is the scan's.
  std::function<base::Status(const gguf::ByteRange&)> wait;
  /// Nothing before this place is read any more.
  std::function<void(std::uint32_t part, std::uint64_t offset)> passed;
};

/// Reads all of the file on up to two threads: one sums it from its first byte to its last (the
/// parts of a split model one after the other, in order), the other the backbone and each expert
/// (model/digest.hpp), so each byte is brought in once and summed twice. A file that `known` knows
/// is not read at all; another one is known to it afterwards, unless it changed meanwhile.
/// `name` is checked, or derived from the file if it is empty (see derive_name), before anything is
/// summed. Errors as gguf::File::open, model::read_config and derive_name; kUnimplemented: more
/// layers or experts than messages can say (wire/limits.hpp); kCancelled.
base::Result<ModelScan> scan_model(const std::filesystem::path& path, std::string name,
                                   const ScanProgress& progress, const SumStore* known = nullptr);

/// The same of bytes that come meanwhile.
base::Result<ModelScan> scan_model(const ScanFeed& feed, std::string name,
                                   const ScanProgress& progress, const SumStore* known = nullptr);

}  // namespace conclave::catalog
