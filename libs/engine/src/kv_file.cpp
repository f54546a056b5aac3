#include "conclave/engine/kv_file.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace conclave::engine {

using base::ErrorCode;
using base::fail;
using model::KvBlockId;

namespace {

// Bytes that `io`, pread or pwrite, moved; fewer if it failed or the file ends.
template <class Io, class Byte>
std::size_t move_all(Io io, int file, std::span<Byte> bytes, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t moved =
        io(file, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) break;
    done += static_cast<std::size_t>(moved);
  }
  return done;
}

}  // namespace

KvFile::KvFile(int file, std::size_t slots, const model::KvPool& pool)
    : file_(file), pool_(pool), slots_(slots) {}

KvFile::~KvFile() { ::close(file_); }

base::Result<std::unique_ptr<KvFile>> KvFile::create(const std::filesystem::path& directory,
                                                     std::uint64_t bytes,
                                                     const model::KvPool& pool) {
  const std::uint64_t slots = bytes / pool.block_bytes();
  if (slots == 0) {
    return fail(ErrorCode::kInvalidArgument, "a KV file of " + std::to_string(bytes) +
                                                 " bytes holds no block of " +
                                                 std::to_string(pool.block_bytes()));
  }
  const int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0) {
    return fail(ErrorCode::kUnavailable,
                "cannot make a KV file in " + directory.string() + ": " + std::strerror(errno));
  }
  return std::unique_ptr<KvFile>(new KvFile(file, slots, pool));
}

std::uint64_t KvFile::offset(std::size_t slot) const {
  return std::uint64_t{slot} * pool_.block_bytes();
}

// Poly1305, as it is the fastest at hand, and its key says whose block it is.
KvFile::Checksum KvFile::checksum(const PrefixKey& key, std::span<const std::byte> bytes) {
  std::array<unsigned char, crypto_onetimeauth_KEYBYTES> secret{};
  std::memcpy(secret.data(), &key, sizeof key);
  std::memcpy(secret.data() + sizeof key, &key, sizeof key);
  Checksum checksum;
  static_assert(std::tuple_size_v<Checksum> == crypto_onetimeauth_BYTES);
  crypto_onetimeauth(checksum.data(), reinterpret_cast<const unsigned char*>(bytes.data()),
                     bytes.size(), secret.data());
  return checksum;
}

void KvFile::put(KvBlockId block, const PrefixKey& key, BlockTokens tokens) {
  if (has(key, tokens)) return;
  const std::size_t place = next_;
  next_ = (next_ + 1) % slots_.size();
  Slot& slot = slots_[place];
  const auto old = places_.find(slot.key);
  if (old != places_.end() && old->second == place) places_.erase(old);
  const std::span<const std::byte> bytes = pool_.bytes(block);
  if (move_all(::pwrite, file_, bytes, offset(place)) != bytes.size()) return;
  slot.key = key;
  std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
  slot.checksum = checksum(key, bytes);
  places_[key] = place;
}

bool KvFile::has(const PrefixKey& key, BlockTokens tokens) const {
  const auto place = places_.find(key);
  return place != places_.end() &&
         std::equal(tokens.begin(), tokens.end(), slots_[place->second].tokens.begin());
}

bool KvFile::get(KvBlockId block, const PrefixKey& key, BlockTokens tokens) {
  if (!has(key, tokens)) return false;
  const auto place = places_.find(key);
  const std::span<std::byte> bytes = pool_.bytes(block);
  const bool is_whole = move_all(::pread, file_, bytes, offset(place->second)) == bytes.size() &&
                        checksum(key, bytes) == slots_[place->second].checksum;
  if (!is_whole) places_.erase(place);
  return is_whole;
}

}  // namespace conclave::engine
