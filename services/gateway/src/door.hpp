// Who may have a chat or a completion computed: knows whose key a request shows, and whether its
// tenant's quota has room for it. Decides; asking the registry and the store is its port's.
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "conclave/base/result.hpp"
#include "conclave/quota/store.hpp"
#include "gateway_core.hpp"
#include "key_book.hpp"

namespace conclave::gateway {

/// What comes of it is said to the door later, or at once.
class DoorPort {
 public:
  virtual ~DoorPort() = default;
  /// Answered by heard(), after the key book has been told, within the time that a client may wait.
  virtual void ask_key(const wire::Sha256& secret) = 0;
  /// Answered by counted().
  virtual void take(RequestId request, const quota::Ask& ask) = 0;
  /// It may come in.
  virtual void pass(Submission submission) = 0;
  /// Of one that has come in.
  virtual void client_gone(RequestId request) = 0;
};

struct DoorOptions {
  bool require_key = false;
  std::string leases;  // prefix of their names: this life of this gateway
  std::shared_ptr<quota::Store> store;
};

/// One thread. Bounded by the tickets of what waits here.
class Door {
 public:
  using TimePoint = KeyBook::TimePoint;
  using WallTime = KeyBook::WallTime;

  /// While the registry does not answer, what it said is believed for so long before it is waited
  /// for again.
  static constexpr std::chrono::seconds kBelieve{10};

  /// What is borrowed must outlive it.
  Door(DoorOptions options, const KeyBook& keys, DoorPort& port, GatewayMetrics& metrics)
      : options_(std::move(options)), keys_(keys), port_(port), metrics_(metrics) {}

  void enter(Submission submission, TimePoint now, WallTime wall);
  /// The registry has answered, or does not: a failure.
  void heard(const wire::Sha256& secret, const base::Status& answer, TimePoint now, WallTime wall);
  void counted(RequestId request, const quota::Counts& counts, TimePoint now);
  void client_gone(RequestId request);

 private:
  struct Counting {
    Submission submission;
    quota::Ask ask;
    TimePoint since;
    bool is_gone = false;  // nobody waits for it
  };

  [[nodiscard]] std::optional<wire::KeyAnswer> believed(const wire::Sha256& secret, TimePoint now,
                                                        WallTime wall) const;
  void ask(const wire::Sha256& secret);
  /// By what is known of its key; none: the registry could not be asked.
  void decide(Submission submission, const std::optional<wire::KeyAnswer>& key, TimePoint now);
  [[nodiscard]] std::optional<ApiError> refusal(const GenerationRequest& request,
                                                const std::optional<wire::KeyAnswer>& key) const;

  const DoorOptions options_;
  const KeyBook& keys_;
  DoorPort& port_;
  GatewayMetrics& metrics_;
  std::map<wire::Sha256, std::list<Submission>> asked_;  // with those who wait for the answer
  std::unordered_map<RequestId, wire::Sha256> waiting_;  // where they are
  std::unordered_map<RequestId, Counting> counting_;
  TimePoint believe_until_{};
};

}  // namespace conclave::gateway
