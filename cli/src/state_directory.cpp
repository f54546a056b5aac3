#include "state_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

namespace {

constexpr const char* kAddressFile = "up.json";

}  // namespace

std::filesystem::path state_directory(const std::string& chosen) {
  if (!chosen.empty()) return chosen;
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    return std::filesystem::path(state) / "conclave";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::filesystem::path(home) / ".local" / "state" / "conclave";
  }
  return ".conclave";
}

base::Status write_addresses(const std::filesystem::path& state, const UpAddresses& addresses) {
  const std::filesystem::path path = state / kAddressFile;
  const std::filesystem::path draft = state / (std::string(kAddressFile) + ".new");
  {
    std::ofstream out(draft, std::ios::trunc);
    out << json::object{{"url", addresses.url},
                        {"scheduler", addresses.scheduler},
                        {"keys", addresses.keys}}
        << "\n";
    if (!out.flush()) return fail(ErrorCode::kUnavailable, draft.string() + " cannot be written");
  }
  std::error_code error;
  std::filesystem::rename(draft, path, error);
  if (error) return fail(ErrorCode::kUnavailable, path.string() + ": " + error.message());
  return {};
}

base::Result<UpAddresses> read_addresses(const std::filesystem::path& state) {
  const std::filesystem::path path = state / kAddressFile;
  std::ifstream in(path);
  if (!in) {
    return fail(ErrorCode::kNotFound, path.string() + " is not there: is `conclave up` running?");
  }
  const std::string text{std::istreambuf_iterator<char>(in), {}};
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

base::Result<StateLock> StateLock::take(const std::filesystem::path& state) {
  std::error_code error;
  std::filesystem::create_directories(state, error);
  if (error) return fail(ErrorCode::kUnavailable, state.string() + ": " + error.message());
  const std::filesystem::path path = state / "lock";
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return fail(ErrorCode::kUnavailable, path.string() + " cannot be opened");
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    return fail(ErrorCode::kFailedPrecondition,
                "another `conclave up` uses " + state.string() + ": give this one its own --state");
  }
  return StateLock(descriptor);
}

StateLock::~StateLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace conclave::cli
