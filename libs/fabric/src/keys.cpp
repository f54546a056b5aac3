#include "conclave/fabric/keys.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using wire::NodeRole;

namespace {

constexpr std::size_t kKeyText = 40;   // Z85 of 32 bytes
constexpr std::size_t kKeyBytes = 32;  // Curve25519
/// Public keys of one directory. A site has one key a role; this leaves room for hundreds of sites.
constexpr std::size_t kKeysMax = 4096;

constexpr std::array kRoles = {NodeRole::kGateway,   NodeRole::kRouter,   NodeRole::kExpertWorker,
                               NodeRole::kScheduler, NodeRole::kRegistry, NodeRole::kOperator};
static_assert(kRoles.size() == wire::kNodeRoleCount);

using KeyBytes = std::array<std::uint8_t, kKeyBytes>;

std::optional<KeyBytes> parse_key(std::string_view text) {
  KeyBytes bytes{};
  const std::string terminated(text);
  if (text.size() != kKeyText || zmq_z85_decode(bytes.data(), terminated.c_str()) == nullptr) {
    return std::nullopt;
  }
  return bytes;
}

std::string system_message(int error) { return std::generic_category().message(error); }

/// A file descriptor that closes itself.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }

 private:
  int descriptor_;
};

enum class Secrecy { kPublic, kSecret };

base::Result<std::string> read_key(const std::filesystem::path& path, Secrecy secrecy) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    const auto code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kInvalidArgument;
    return fail(code, path.string() + ": " + system_message(errno));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path.string() + ": not a file");
  }
  if (secrecy == Secrecy::kSecret && (status.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    return fail(ErrorCode::kInvalidArgument,
                path.string() + ": a secret key that others can read or write (chmod 600)");
  }
  std::array<char, kKeyText + 8> buffer{};  // room for a line end, and to see that there is more
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t got = ::read(file.get(), buffer.data() + size, buffer.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  std::string text(buffer.data(), size);
  text.erase(text.find_last_not_of(" \r\n") + 1);
  if (!parse_key(text)) {
    return fail(ErrorCode::kInvalidArgument, path.string() + ": not a key (40 characters of Z85)");
  }
  return text;
}

base::Result<std::string> public_of(const std::string& secret) {
  std::array<char, kKeyText + 1> text{};
  if (zmq_curve_public(text.data(), secret.c_str()) != 0) {
    return fail(ErrorCode::kInvalidArgument, "not a secret key");
  }
  return std::string(text.data());
}

/// Writes a new file whole or not at all: a reader never sees half a key. False: it exists.
base::Result<bool> write_new(const std::filesystem::path& path, std::string text, mode_t mode) {
  const auto refuse = [&](int error) {
    return fail(ErrorCode::kUnavailable, path.string() + ": " + system_message(error));
  };
  text += '\n';
  std::string temporary = path.string() + ".XXXXXX";
  const File file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) return refuse(errno);
  int error = 0;
  const ssize_t written = ::write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) error = written < 0 ? errno : ENOSPC;
  if (error == 0 && ::fchmod(file.get(), mode) != 0) error = errno;
  if (error == 0 && ::fsync(file.get()) != 0) error = errno;
  if (error == 0 && ::link(temporary.c_str(), path.c_str()) != 0) error = errno;
  ::unlink(temporary.c_str());
  if (error == EEXIST) return false;
  if (error != 0) return refuse(error);
  return true;
}

/// "router-berlin" -> router.
std::optional<NodeRole> role_of_stem(std::string_view stem) {
  for (const NodeRole role : kRoles) {
    const std::string_view name = to_string(role);
    if (stem == name || (stem.starts_with(name) && stem[name.size()] == '-')) return role;
  }
  return std::nullopt;
}

}  // namespace

KeyPair generate_key_pair() {
  std::array<char, kKeyText + 1> public_key{};
  std::array<char, kKeyText + 1> secret_key{};
  CONCLAVE_CHECK(zmq_curve_keypair(public_key.data(), secret_key.data()) == 0);
  return {public_key.data(), secret_key.data()};
}

base::Result<std::vector<std::string>> write_keys(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return fail(ErrorCode::kUnavailable, directory.string() + ": " + error.message());
  }
  std::vector<std::string> written;
  for (const NodeRole role : kRoles) {
    const std::string name(to_string(role));
    const auto secret_path = directory / (name + ".key");
    const auto public_path = directory / (name + ".pub");
    const bool has_secret = std::filesystem::exists(secret_path, error);
    const bool has_public = std::filesystem::exists(public_path, error);
    if (has_public) continue;  // whole, or of a role that runs elsewhere
    if (!has_secret) {
      CONCLAVE_TRY(const bool is_new,
                   write_new(secret_path, generate_key_pair().secret_key, S_IRUSR | S_IWUSR));
      if (is_new) written.push_back(name + ".key");
    }
    CONCLAVE_TRY(const std::string secret, read_key(secret_path, Secrecy::kSecret));
    CONCLAVE_TRY(const std::string key, public_of(secret));
    CONCLAVE_TRY(const bool is_new,
                 write_new(public_path, key, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH));
    if (is_new) written.push_back(name + ".pub");
  }
  return written;
}

base::Result<KeyRing> KeyRing::load(const std::filesystem::path& directory, NodeRole role) {
  KeyRing ring;
  ring.role_ = role;
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == ".pub") files.push_back(entry->path());
    if (files.size() > kKeysMax) {
      return fail(ErrorCode::kInvalidArgument, directory.string() + ": too many keys");
    }
  }
  if (error) return fail(ErrorCode::kNotFound, directory.string() + ": " + error.message());
  std::sort(files.begin(), files.end());

  for (const auto& path : files) {
    const std::string stem = path.stem().string();
    const auto owner = role_of_stem(stem);
    if (!owner) {
      return fail(ErrorCode::kInvalidArgument, path.string() + ": its name begins with no role");
    }
    CONCLAVE_TRY(std::string key, read_key(path, Secrecy::kPublic));
    const auto [known, is_new] = ring.allowed_.emplace(key, *owner);
    if (!is_new && known->second != *owner) {
      return fail(ErrorCode::kInvalidArgument,
                  path.string() + ": also the key of " + std::string(to_string(known->second)));
    }
    if (stem == to_string(*owner)) ring.servers_[*owner] = std::move(key);
  }

  const std::string name(to_string(role));
  const auto secret_path = directory / (name + ".key");
  CONCLAVE_TRY(ring.own_.secret_key, read_key(secret_path, Secrecy::kSecret));
  const auto own = ring.servers_.find(role);
  if (own == ring.servers_.end()) {
    return fail(ErrorCode::kNotFound, (directory / (name + ".pub")).string() + ": missing");
  }
  ring.own_.public_key = own->second;
  CONCLAVE_TRY(const std::string expected, public_of(ring.own_.secret_key));
  if (expected != ring.own_.public_key) {
    return fail(ErrorCode::kInvalidArgument,
                secret_path.string() + ": does not belong to " + name + ".pub");
  }
  return ring;
}

std::string_view KeyRing::server_key(NodeRole role) const {
  const auto found = servers_.find(role);
  return found == servers_.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<NodeRole> KeyRing::role_of(std::string_view public_key) const {
  const auto found = allowed_.find(public_key);
  if (found == allowed_.end()) return std::nullopt;
  return found->second;
}

std::span<const NodeRole> clients_of(NodeRole server) {
  static constexpr std::array kRouter = {NodeRole::kGateway, NodeRole::kOperator};
  static constexpr std::array kWorker = {NodeRole::kRouter};
  static constexpr std::array kScheduler = {NodeRole::kGateway, NodeRole::kRouter,
                                            NodeRole::kExpertWorker, NodeRole::kRegistry,
                                            NodeRole::kOperator};
  static constexpr std::array kRegistry = {NodeRole::kGateway, NodeRole::kScheduler,
                                           NodeRole::kOperator, NodeRole::kRouter,
                                           NodeRole::kExpertWorker};
  static constexpr std::array kGateway = {NodeRole::kOperator};
  switch (server) {
    case NodeRole::kRouter:
      return kRouter;
    case NodeRole::kExpertWorker:
      return kWorker;
    case NodeRole::kScheduler:
      return kScheduler;
    case NodeRole::kRegistry:
      return kRegistry;
    case NodeRole::kGateway:
      return kGateway;
    case NodeRole::kOperator:
      return {};  // a command serves nobody
  }
  return {};
}

}  // namespace conclave::fabric
