#include "host_names.hpp"

#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

namespace {

base::Result<std::string> ask_system(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return fail(ErrorCode::kUnavailable, host + ": " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  std::array<char, INET_ADDRSTRLEN> text{};
  const auto* address = reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  if (inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()) == nullptr) {
    return fail(ErrorCode::kUnavailable, host + ": not an address");
  }
  return std::string(text.data());
}

constexpr std::string_view kTcp = "tcp://";

/// The host of "tcp://host:port" if it has to be looked up, otherwise empty.
std::string_view name_in(std::string_view address) {
  if (!address.starts_with(kTcp)) return {};
  address.remove_prefix(kTcp.size());
  const auto colon = address.rfind(':');
  // ZeroMQ says what is wrong with addresses without a port, and knows "source;host".
  if (colon == std::string_view::npos || colon == 0) return {};
  const auto host = address.substr(0, colon);
  const bool numeric = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return numeric || host.find_first_of("[];*") != std::string_view::npos ? std::string_view{}
                                                                         : host;
}

}  // namespace

struct HostNames::State {
  struct Name {
    std::string address;  // the last one that it had; empty: none yet
    std::string error;    // of the last lookup; empty: it has not failed
    std::optional<Time> asked;
    std::optional<Time> answered;  // nothing while a lookup is under way
  };

  explicit State(Lookup how) : lookup(std::move(how)) {}

  const Lookup lookup;
  std::mutex mutex;  // guards all that follows
  std::map<std::string, Name, std::less<>> names;
  std::size_t under_way = 0;
};

HostNames::HostNames() : HostNames(ask_system) {}
HostNames::HostNames(Lookup lookup) : state_(std::make_shared<State>(std::move(lookup))) {}

bool HostNames::is_name(const std::string& address) { return !name_in(address).empty(); }

base::Result<std::optional<std::string>> HostNames::numeric(const std::string& address, Time now) {
  const std::string_view host = name_in(address);
  if (host.empty()) return address;
  const auto with = [&](const std::string& number) {
    return std::string(kTcp) + number + address.substr(kTcp.size() + host.size());
  };
  const std::lock_guard lock(state_->mutex);
  auto found = state_->names.find(host);
  if (found == state_->names.end()) {
    if (state_->names.size() == kNamesMax) {
      return fail(ErrorCode::kOverloaded, "too many host names, of which " + std::string(host));
    }
    found = state_->names.emplace(host, State::Name{}).first;
  }
  State::Name& name = found->second;
  if (name.answered && now < *name.answered + kFresh) {
    if (!name.address.empty()) return with(name.address);
    return fail(ErrorCode::kUnavailable, name.error);
  }
  const bool asks = name.asked && !name.answered;
  if (!asks && state_->under_way < kLookupsMax) {
    try {
      std::thread([state = state_, wanted = std::string(host)] {
        auto answer = state->lookup(wanted);
        const std::lock_guard answer_lock(state->mutex);
        State::Name& asked = state->names.find(wanted)->second;
        asked.answered = std::chrono::steady_clock::now();
        asked.error = answer ? std::string{} : std::move(answer.error().message);
        if (answer) asked.address = std::move(*answer);
        --state->under_way;
      }).detach();
      ++state_->under_way;
      name.asked = now;
      name.answered.reset();
    } catch (const std::system_error&) {  // no thread now: who asks again may get one
    }
  }
  if (!name.address.empty() && name.asked && now >= *name.asked + kPatience) {
    return with(name.address);
  }
  return std::nullopt;
}

}  // namespace conclave::fabric
