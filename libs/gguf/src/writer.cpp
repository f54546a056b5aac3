#include "conclave/gguf/writer.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "conclave/base/utf8.hpp"
#include "format.hpp"
#include "limits.hpp"
#include "output_file.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using base::fail;

tl::unexpected<base::Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message));
}

class HeaderBuilder {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    append(std::as_bytes(std::span(&value, 1)));
  }

  void put(const std::string& text) {
    put(std::uint64_t{text.size()});
    append(std::as_bytes(std::span(text)));
  }

  base::Status put(const Array& array, int depth) {
    if (depth > limits::kArrayDepthMax) {
      return invalid("arrays nest deeper than " + std::to_string(limits::kArrayDepthMax));
    }
    put(static_cast<std::uint32_t>(array.index()));
    return std::visit([&](const auto& elements) { return put_elements(elements, depth); }, array);
  }

  base::Status put(const Value& value) {
    put(static_cast<std::uint32_t>(value.data.index()));
    return std::visit(
        [&](const auto& stored) -> base::Status {
          if constexpr (std::is_same_v<std::decay_t<decltype(stored)>, Array>) {
            return put(stored, 1);
          } else {
            put(stored);
            return {};
          }
        },
        value.data);
  }

  void pad_to(std::uint64_t alignment) { bytes_.resize(align_up(bytes_.size(), alignment)); }

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  void append(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  template <class T>
  base::Status put_elements(const std::vector<T>& elements, int depth) {
    put(std::uint64_t{elements.size()});
    if constexpr (std::is_same_v<T, std::string>) {
      for (const std::string& element : elements) put(element);
    } else if constexpr (std::is_same_v<T, Value>) {
      for (const Value& element : elements) {
        const auto* nested = std::get_if<Array>(&element.data);
        if (nested == nullptr) {
          return invalid("an array of values holds " + value_type_name(element.data.index()) +
                         ": only arrays nest");
        }
        CONCLAVE_TRY_VOID(put(*nested, depth + 1));
      }
    } else if constexpr (std::is_same_v<T, char>) {  // bools: any other byte would not read back
      for (const char element : elements) put(static_cast<std::uint8_t>(element != 0));
    } else {
      append(std::as_bytes(std::span(elements)));
    }
    return {};
  }

  std::vector<std::byte> bytes_;
};

base::Status put_metadata(HeaderBuilder& header, const Metadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    if (key.empty()) return invalid("a metadata key is empty");
    if (key.size() > limits::kKeyBytesMax || !base::utf8::valid(key)) {
      return invalid("metadata key " + shown(key) + " is over-long or not valid UTF-8");
    }
    header.put(key);
    if (auto put = header.put(value); !put) {
      return fail(std::move(put).error().within("metadata key " + shown(key)));
    }
  }
  return {};
}

base::Status check_tensor(const WriterTensor& tensor) {
  const auto refuse = [&](const std::string& why) {
    return invalid("tensor " + shown(tensor.name) + ": " + why);
  };
  if (tensor.name.empty()) return refuse("its name is empty");
  if (tensor.name.size() > limits::kTensorNameBytesWritten) {
    return refuse("its name is longer than the " + std::to_string(limits::kTensorNameBytesWritten) +
                  " bytes that ggml reads");
  }
  if (!base::utf8::valid(tensor.name)) return refuse("its name is not valid UTF-8");
  if (tensor.shape.empty() || tensor.shape.size() > limits::kDimensionsMax) {
    return refuse("it has " + std::to_string(tensor.shape.size()) + " dimensions, expected 1 to " +
                  std::to_string(limits::kDimensionsMax));
  }
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : tensor.shape) {
    if (dimension == 0) return refuse("a dimension is 0");
    if (dimension > limits::kElementsMax / elements) return refuse("too many elements");
    elements *= dimension;
  }
  const BlockTraits block = traits(tensor.type);
  if (tensor.shape[0] % block.elements != 0) {
    return refuse("rows of " + std::to_string(tensor.shape[0]) +
                  " elements are no whole number of " + std::string(block.name) + " blocks");
  }
  const auto size = bytes_of(tensor.type, elements);
  if (!size || *size != tensor.data.size()) {
    return refuse("its data has " + std::to_string(tensor.data.size()) +
                  " bytes, which is not what its shape and type need");
  }
  return {};
}

base::Status check_tensors(std::span<const WriterTensor> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const WriterTensor& tensor : tensors) {
    CONCLAVE_TRY_VOID(check_tensor(tensor));
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin != names.end()) return invalid("tensor name " + shown(*twin) + " is a duplicate");
  return {};
}

struct Layout {
  std::vector<std::byte> header;  // up to where the data starts
  std::uint32_t alignment = 0;
};

// Data of tensors follows in their order, each padded to the alignment, the last one too: ggml
// expects exactly that.
base::Result<Layout> lay_out(const Metadata& metadata, std::span<const WriterTensor> tensors) {
  CONCLAVE_TRY_VOID(check_tensors(tensors));
  auto alignment = alignment_of(metadata);
  if (!alignment) return invalid(alignment.error().message);
  if (metadata.entries().size() > limits::kMetadataKeysMax) {
    return invalid(std::to_string(metadata.entries().size()) + " metadata keys are too many");
  }
  HeaderBuilder header;
  header.put(kMagic);
  header.put(kVersionMax);
  header.put(std::uint64_t{tensors.size()});
  header.put(std::uint64_t{metadata.entries().size()});
  CONCLAVE_TRY_VOID(put_metadata(header, metadata));
  std::uint64_t offset = 0;
  for (const WriterTensor& tensor : tensors) {
    header.put(tensor.name);
    header.put(static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::uint64_t dimension : tensor.shape) header.put(dimension);
    header.put(static_cast<std::uint32_t>(tensor.type));
    header.put(offset);
    offset += align_up(tensor.data.size(), *alignment);
  }
  header.pad_to(*alignment);
  if (header.size() > limits::kHeaderBytesMax) {
    return invalid("metadata and tensor table of " + std::to_string(header.size()) +
                   " bytes are more than the limit of " + std::to_string(limits::kHeaderBytesMax));
  }
  return Layout{std::move(header).take(), *alignment};
}

std::size_t padding_after(std::size_t size, std::uint32_t alignment) {
  return static_cast<std::size_t>(align_up(size, alignment) - size);
}

}  // namespace

base::Result<std::vector<std::byte>> serialize(const Metadata& metadata,
                                               std::span<const WriterTensor> tensors) {
  CONCLAVE_TRY(auto layout, lay_out(metadata, tensors));
  std::vector<std::byte> out = std::move(layout.header);
  std::size_t size = out.size();
  for (const WriterTensor& tensor : tensors) {
    size += tensor.data.size() + padding_after(tensor.data.size(), layout.alignment);
  }
  out.reserve(size);
  for (const WriterTensor& tensor : tensors) {
    out.insert(out.end(), tensor.data.begin(), tensor.data.end());
    out.resize(out.size() + padding_after(tensor.data.size(), layout.alignment));
  }
  return out;
}

base::Status write(const std::filesystem::path& path, const Metadata& metadata,
                   std::span<const WriterTensor> tensors) {
  CONCLAVE_TRY(const auto layout, lay_out(metadata, tensors));
  const std::vector<std::byte> zeros(layout.alignment);
  CONCLAVE_TRY(auto file, OutputFile::create(path));
  CONCLAVE_TRY_VOID(file.append(layout.header));
  for (const WriterTensor& tensor : tensors) {
    CONCLAVE_TRY_VOID(file.append(tensor.data));
    const std::size_t padding = padding_after(tensor.data.size(), layout.alignment);
    CONCLAVE_TRY_VOID(file.append(std::span(zeros).first(padding)));
  }
  return file.commit();
}

}  // namespace conclave::gguf
