#include "state_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr const char* kAddressFile = "up.json";
// Three addresses and paths of PATH_MAX; more is not of our making.
constexpr std::size_t kAddressBytesMax = 16384;

std::string because(int number) { return std::generic_category().message(number); }

}  // namespace

fs::path state_directory(const std::string& chosen) {
  if (!chosen.empty()) return chosen;
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    return fs::path(state) / "conclave";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return fs::path(home) / ".local" / "state" / "conclave";
  }
  return ".conclave";
}

base::Status write_addresses(const fs::path& state, const UpAddresses& addresses) {
  const fs::path path = state / kAddressFile;
  const fs::path draft = state / (std::string(kAddressFile) + ".new");
  {
    std::ofstream out(draft, std::ios::trunc);
    out << json::object{{"url", addresses.url},
                        {"scheduler", addresses.scheduler},
                        {"keys", addresses.keys}}
        << "\n";
    if (!out.flush()) return fail(ErrorCode::kUnavailable, draft.string() + " cannot be written");
  }
  std::error_code error;
  fs::rename(draft, path, error);
  if (error) return fail(ErrorCode::kUnavailable, path.string() + ": " + error.message());
  return {};
}

base::Result<UpAddresses> read_addresses(const fs::path& state) {
  const fs::path path = state / kAddressFile;
  std::ifstream in(path);
  if (!in) {
    return fail(ErrorCode::kNotFound, path.string() + " is not there: is `conclave up` running?");
  }
  std::string text(kAddressBytesMax, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* object = error ? nullptr : value.if_object();
  UpAddresses addresses;
  const auto take = [&](const char* key, std::string& to) {
    const json::value* found = object == nullptr ? nullptr : object->if_contains(key);
    if (found == nullptr || !found->is_string()) return false;
    to = found->get_string();
    return true;
  };
  if (!take("url", addresses.url) || !take("scheduler", addresses.scheduler) ||
      !take("keys", addresses.keys)) {
    return fail(ErrorCode::kCorruptData, path.string() + " is not what `conclave up` writes");
  }
  return addresses;
}

void remove_addresses(const fs::path& state) {
  std::error_code ignored;
  fs::remove(state / kAddressFile, ignored);
}

base::Result<StateLock> StateLock::take(const fs::path& state) {
  std::error_code error;
  const bool made = fs::create_directories(state, error);
  // It will hold secret keys.
  if (made && !error) fs::permissions(state, fs::perms::owner_all, error);
  if (error) return fail(ErrorCode::kUnavailable, state.string() + ": " + error.message());
  const fs::path path = state / "lock";
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.is_open()) {
    return fail(ErrorCode::kUnavailable, path.string() + ": " + because(errno));
  }
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return StateLock(std::move(file));
  if (errno != EWOULDBLOCK) {
    return fail(ErrorCode::kUnavailable, path.string() + ": " + because(errno));
  }
  return fail(ErrorCode::kFailedPrecondition,
              "another `conclave up` uses " + state.string() + ": give this one its own --state");
}

}  // namespace conclave::cli
