// Calls inside one process: the servers that can be called by name, and what a client's thread does
// to call one.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/fabric/call_server.hpp"
#include "wakeup.hpp"

namespace conclave::fabric {

/// What a direct call was answered.
struct DirectAnswer {
  bool answered = false;
  wire::ExpertReply reply;
};

/// A call as servers hold it.
struct ServedCall : IncomingCall {
  DirectAnswer* direct = nullptr;  // of a direct call: where its answer goes
};

/// A server that is called on its clients' threads. Any thread.
class DirectTarget {
 public:
  using Handler = std::function<void(std::span<IncomingCall* const>)>;
  explicit DirectTarget(Handler handler) : handler_(std::move(handler)) {}

  /// Runs the handler on this call. kUnavailable: the server is gone or drains; kInternal: the
  /// handler did not answer.
  base::Status call(ServedCall& call);

  void drain() { draining_ = true; }
  /// No call runs any more when this returns, and none will.
  void close();
  [[nodiscard]] bool closed() const { return closed_; }

  void attach() { ++clients_; }
  void detach() { --clients_; }
  [[nodiscard]] std::size_t clients() const { return clients_; }

 private:
  std::atomic<bool> draining_{false};
  std::atomic<bool> closed_{false};
  std::atomic<std::size_t> clients_{0};
  std::mutex mutex_;  // one call at a time: handlers are written for one thread
  Handler handler_;
};

/// The direct servers of one Context, by name. Any thread.
class DirectRegistry {
 public:
  /// kFailedPrecondition: the name is taken.
  base::Status add(const std::string& name, std::shared_ptr<DirectTarget> target);
  /// Closes it first, so that whoever is told finds it closed.
  void remove(const std::string& name);
  /// Null: there is none now.
  [[nodiscard]] std::shared_ptr<DirectTarget> find(const std::string& name) const;

  /// Signals this whenever a server comes or goes, while it lives.
  void watch(std::weak_ptr<Wakeup> watcher);

 private:
  void tell();

  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, std::shared_ptr<DirectTarget>> targets_;
  std::vector<std::weak_ptr<Wakeup>> watchers_;
};

}  // namespace conclave::fabric
