#include "sparse_image.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <tuple>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/mapped_file.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/gguf/header.hpp"

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using gguf::ByteRange;

namespace {

// What is asked for first, and by which factor more if the header goes on. Small models' headers
// have some KiB, large vocabularies 5 to 20 MiB.
constexpr std::uint64_t kFirstBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kMoreTimes = 4;
// A piece is one request and one file of the cache: long against a round trip, short against a
// cache.
constexpr std::uint64_t kPieceBytes = std::uint64_t{32} << 20;
// Tensors are padded; what is between two of them is cheaper than another request.
constexpr std::uint64_t kGapBytes = std::uint64_t{4} << 10;

// Ranges in their order, those that touch as one, in pieces.
std::vector<ByteRange> pieces_of(std::span<const ByteRange> ranges) {
  std::vector<ByteRange> sorted(ranges.begin(), ranges.end());
  std::sort(sorted.begin(), sorted.end(), [](const ByteRange& a, const ByteRange& b) {
    return std::tie(a.part, a.offset) < std::tie(b.part, b.offset);
  });
  std::vector<ByteRange> runs;
  for (const ByteRange& range : sorted) {
    if (!runs.empty() && runs.back().part == range.part &&
        range.offset <= runs.back().offset + runs.back().size + kGapBytes) {
      ByteRange& last = runs.back();
      last.size = std::max(last.size, range.offset + range.size - last.offset);
    } else if (range.size > 0) {
      runs.push_back(range);
    }
  }
  std::vector<ByteRange> pieces;
  for (const ByteRange& run : runs) {
    for (std::uint64_t at = 0; at < run.size; at += kPieceBytes) {
      pieces.push_back({run.part, run.offset + at, std::min(kPieceBytes, run.size - at)});
    }
  }
  return pieces;
}

// "-00001-of-00003.gguf" of a name that ends so, else nothing: what tells the parts of a model
// apart.
std::string part_of(const std::string& file_name) {
  const std::string pattern = gguf::part_suffix(0, 1);
  if (file_name.size() < pattern.size()) return "";
  const std::string end = file_name.substr(file_name.size() - pattern.size());
  for (std::size_t i = 0; i < end.size(); ++i) {
    const bool is_digit = end[i] >= '0' && end[i] <= '9';
    const bool wants_digit = pattern[i] >= '0' && pattern[i] <= '9';
    if (wants_digit ? !is_digit : end[i] != pattern[i]) return "";
  }
  return end;
}

}  // namespace

struct SparseImage::Part {
  explicit Part(const Location& where) : location(where) {}

  const Location location;
  std::uint32_t index = 0;
  std::uint64_t size = 0;
  std::uint64_t header_bytes = 0;
  gguf::Header header;
  Descriptor file;
  std::mutex mutex;  // guards `source`, and `is_whole` while it is read
  std::unique_ptr<Source> source;
  std::atomic<bool> is_whole = false;  // all of it was read, since the server has no ranges
};

SparseImage::SparseImage(const ImageContext& context, std::string_view sha256, Scratch scratch)
    : context_(context), sha256_(sha256), scratch_(std::move(scratch)) {}

SparseImage::~SparseImage() = default;

// ---- opening

Result<std::unique_ptr<SparseImage>> SparseImage::open(const ImageContext& context,
                                                       const Location& location,
                                                       std::string_view sha256, const Stop& stop) {
  CONCLAVE_TRY(Scratch scratch, context.cache.scratch());
  std::unique_ptr<SparseImage> image(new SparseImage(context, sha256, std::move(scratch)));
  CONCLAVE_TRY_VOID(image->add_part(location, stop));
  const gguf::Header header = image->parts_.front()->header;
  if (header.parts == 1) return image;
  image->given_ = header.part;
  std::unique_ptr<Part> given = std::move(image->parts_.front());
  image->parts_.clear();
  const std::string end = gguf::part_suffix(header.part, header.parts);
  for (std::uint32_t part = 0; part < header.parts; ++part) {
    if (part == header.part) {
      given->index = part;
      image->parts_.push_back(std::move(given));
      continue;
    }
    CONCLAVE_TRY(const Location other,
                 location.with_end(end, gguf::part_suffix(part, header.parts)));
    CONCLAVE_TRY_VOID(image->add_part(other, stop));
  }
  return image;
}

// Named as its header says, so that gguf::File finds the parts whatever their address is.
Status SparseImage::add_part(const Location& location, const Stop& stop) {
  auto part = std::make_unique<Part>(location);
  part->index = static_cast<std::uint32_t>(parts_.size());
  CONCLAVE_TRY(part->size, find_size(*part, stop));
  const std::filesystem::path draft = scratch_->path() / "part";
  part->file = Descriptor(::open(draft.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!part->file) return system_error(draft, errno);
  if (::ftruncate(part->file.get(), static_cast<off_t>(part->size)) != 0) {
    return system_error(draft, errno);
  }
  parts_.push_back(std::move(part));
  if (Status fetched = fetch_header(*parts_.back(), stop); !fetched) {
    return fail(fetched.error().within(location.shown()));
  }
  const gguf::Header& header = parts_.back()->header;
  const std::string name =
      header.parts == 1 ? "model.gguf" : "model" + gguf::part_suffix(header.part, header.parts);
  if (::rename(draft.c_str(), (scratch_->path() / name).c_str()) != 0) {
    return system_error(draft, errno);
  }
  return {};
}

// A version's bytes do not change, nor does their number.
Result<std::uint64_t> SparseImage::find_size(Part& part, const Stop& stop) {
  const std::string name = name_of(part, 0, 0);
  const auto sum = sha256_.empty() ? std::nullopt : context_.cache.find_name(name);
  const auto known = sum ? context_.cache.find(*sum) : std::nullopt;
  char text[24];
  const ssize_t got = known ? ::pread(known->get(), text, sizeof text, 0) : 0;
  std::uint64_t size = 0;
  if (got > 0 && std::from_chars(text, text + got, size).ptr == text + got && size > 0) return size;

  CONCLAVE_TRY(Source* const source, this->source(part, stop));
  size = source->size();
  if (sha256_.empty()) return size;
  const std::string digits = std::to_string(size);
  const std::filesystem::path draft = scratch_->path() / "size";
  const Descriptor file(::open(draft.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file || !write_at(file.get(), 0, std::as_bytes(std::span(digits)))) return size;
  model::Sha256Hasher hasher;
  hasher.update(std::as_bytes(std::span(digits)));
  const model::Sha256 own = hasher.finish();
  const FileRange range{file.get(), 0, digits.size()};
  if (context_.cache.put(own, {&range, 1})) {
    static_cast<void>(context_.cache.put_name(name, own));
  }
  return size;
}

Status SparseImage::fetch_header(Part& part, const Stop& stop) {
  CONCLAVE_TRY(const base::MappedFile mapped,
               base::MappedFile::open("/proc/self/fd/" + std::to_string(part.file.get())));
  for (std::uint64_t wanted = kFirstBytes;; wanted *= kMoreTimes) {
    const std::uint64_t end = std::min(wanted, part.size);
    const ByteRange more{part.index, part.header_bytes, end - part.header_bytes};
    CONCLAVE_TRY_VOID(fetch({&more, 1}, stop));
    part.header_bytes = end;
    CONCLAVE_TRY(const auto header, gguf::read_header(mapped.bytes().first(end), part.size));
    if (!header) continue;
    part.header = *header;
    return {};
  }
}

Result<gguf::File> SparseImage::open_file() {
  CONCLAVE_CHECK(scratch_.has_value());
  const gguf::Header& header = parts_[given_]->header;
  const std::string name =
      header.parts == 1 ? "model.gguf" : "model" + gguf::part_suffix(header.part, header.parts);
  auto file = gguf::File::open(scratch_->path() / name);
  scratch_.reset();
  if (!file) return fail(file.error().within(parts_[given_]->location.shown()));
  return file;
}

Result<Source*> SparseImage::source(Part& part, const Stop& stop) {
  const std::lock_guard lock(part.mutex);
  if (part.source) return part.source.get();
  CONCLAVE_TRY(part.source, Source::open(context_.sources, part.location, stop));
  if (part.size == 0 || part.source->size() == part.size) return part.source.get();
  part.source.reset();
  return fail(ErrorCode::kFailedPrecondition, part.location.shown() + " is another file by now");
}

const Location& SparseImage::location(std::uint32_t part) const { return parts_[part]->location; }
std::uint64_t SparseImage::size(std::uint32_t part) const { return parts_[part]->size; }
std::uint64_t SparseImage::header_bytes(std::uint32_t part) const {
  return parts_[part]->header_bytes;
}

Result<std::string> SparseImage::etag(std::uint32_t part, const Stop& stop) {
  CONCLAVE_TRY(const Source* const source, this->source(*parts_[part], stop));
  return source->etag();
}

// ---- fetching

Status SparseImage::run(const std::vector<ByteRange>& pieces,
                        const std::function<Status(const ByteRange&)>& fetch_one) const {
  std::mutex mutex;  // guards `outcome`
  Status outcome;
  std::atomic<bool> failed = false;
  base::ThreadPool pool(static_cast<unsigned>(
      std::clamp<std::size_t>(pieces.size(), 1, context_.sources.settings.connections)));
  pool.for_each(pieces.size(), [&](std::size_t i, unsigned) {
    if (failed) return;
    Status done = fetch_one(pieces[i]);
    if (done) return;
    const std::lock_guard lock(mutex);
    if (!failed.exchange(true)) outcome = std::move(done);
  });
  return outcome;
}

Status SparseImage::fetch(std::span<const ByteRange> ranges, const Stop& stop) {
  return run(pieces_of(ranges), [&](const ByteRange& piece) { return fetch_piece(piece, stop); });
}

Status SparseImage::fetch_piece(const ByteRange& piece, const Stop& stop) {
  if (sha256_.empty()) return read(piece, stop);
  const std::string name = name_of(*parts_[piece.part], piece.offset, piece.size);
  const auto known = context_.cache.find_name(name);
  if (known && take_cached({&piece, 1}, *known)) return {};
  CONCLAVE_TRY_VOID(read(piece, stop));
  model::Sha256Hasher hasher;
  CONCLAVE_TRY_VOID(copy(in_files({&piece, 1}), -1, 0, &hasher));
  keep({&piece, 1}, hasher.finish(), name);
  return {};
}

Status SparseImage::fetch_expert(std::span<const ByteRange> ranges, const model::Sha256& sum,
                                 const Stop& stop) {
  const bool is_known = sum != model::Sha256{};
  if (is_known && take_cached(ranges, sum)) return {};
  CONCLAVE_TRY_VOID(
      run(pieces_of(ranges), [&](const ByteRange& piece) { return read(piece, stop); }));
  if (is_known) keep(ranges, sum, "");
  return {};
}

// From where the model is.
Status SparseImage::read(const ByteRange& piece, const Stop& stop) {
  Part& part = *parts_[piece.part];
  if (part.is_whole) return {};
  CONCLAVE_TRY(Source* const source, this->source(part, stop));
  if (source->has_ranges()) return bring(part, *source, piece.offset, piece.size, {}, stop);
  const std::lock_guard lock(part.mutex);
  if (part.is_whole) return {};
  CONCLAVE_TRY_VOID(bring(part, *source, 0, part.size, {}, stop));
  part.is_whole = true;
  return {};
}

Status SparseImage::fill(std::uint32_t index, std::uint64_t from, const Came& came,
                         const Stop& stop) {
  Part& part = *parts_[index];
  if (part.is_whole) {
    came(part.size);
    return {};
  }
  CONCLAVE_TRY(Source* const source, this->source(part, stop));
  return bring(part, *source, from, part.size - from, came, stop);
}

Status SparseImage::bring(Part& part, const Source& source, std::uint64_t offset,
                          std::uint64_t size, const Came& came, const Stop& stop) {
  const auto write = [&part, &came, &offset](std::span<const std::byte> bytes) -> Status {
    CONCLAVE_TRY_VOID(write_at(part.file.get(), offset, bytes));
    offset += bytes.size();
    if (came) came(offset);
    return {};
  };
  return source.read(offset, size, write, stop);
}

void SparseImage::refuse(std::span<const ByteRange> ranges) {
  for (const ByteRange& piece : pieces_of(ranges)) {
    const auto known =
        context_.cache.find_name(name_of(*parts_[piece.part], piece.offset, piece.size));
    if (known) context_.cache.drop(*known);
  }
}

void SparseImage::release(std::span<const ByteRange> ranges) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  for (const ByteRange& range : ranges) {
    const Part& part = *parts_[range.part];
    if (part.is_whole) continue;  // it would all have to come again
    // Pages that others have bytes on stay.
    const std::uint64_t begin = (range.offset + page - 1) / page * page;
    const std::uint64_t end = (range.offset + range.size) / page * page;
    if (begin >= end) continue;
    ::fallocate(part.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(begin), static_cast<off_t>(end - begin));
  }
}

// ---- the cache

// By which part it is and not by its address: a version may have several, with the same bytes.
std::string SparseImage::name_of(const Part& part, std::uint64_t offset, std::uint64_t size) const {
  return sha256_ + ":" + part_of(part.location.file_name()) + ":" + std::to_string(offset) + "+" +
         std::to_string(size);
}

std::vector<FileRange> SparseImage::in_files(std::span<const ByteRange> ranges) const {
  std::vector<FileRange> files;
  for (const ByteRange& range : ranges) {
    files.push_back({parts_[range.part]->file.get(), range.offset, range.size});
  }
  return files;
}

// True: the bytes are in their place. What the cache has wrong, it has no longer.
bool SparseImage::take_cached(std::span<const ByteRange> ranges, const model::Sha256& sum) {
  const auto blob = context_.cache.find(sum);
  if (!blob) return false;
  model::Sha256Hasher hasher;
  std::uint64_t at = 0;
  for (const ByteRange& range : ranges) {
    const FileRange from{blob->get(), at, range.size};
    const Status copied = copy({&from, 1}, parts_[range.part]->file.get(), range.offset, &hasher);
    if (!copied) {
      context_.log.warn("cached_piece_unreadable", {{"error", copied.error().to_string()}});
      break;
    }
    at += range.size;
  }
  if (hasher.finish() == sum) {
    context_.cached_bytes.add(static_cast<double>(at));
    return true;
  }
  context_.log.warn("cached_piece_damaged", {{"sha256", model::to_hex(sum)}});
  context_.cache.drop(sum);
  return false;
}

// What cannot be kept is fetched again next time, and that is all.
void SparseImage::keep(std::span<const ByteRange> ranges, const model::Sha256& sum,
                       std::string_view name) {
  Status kept = context_.cache.put(sum, in_files(ranges));
  if (kept && !name.empty()) kept = context_.cache.put_name(name, sum);
  if (!kept) context_.log.warn("piece_not_cached", {{"error", kept.error().to_string()}});
}

}  // namespace conclave::artifacts
