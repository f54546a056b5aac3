// Work that takes longer than a request may wait (reading files, walking the audit): begun here,
// kept in the catalogue, so that every registry knows how far it is, what came of it, or that it
// was interrupted because the registry that did it is gone.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/telemetry/log.hpp"

namespace conclave::registry {

/// {"id","what","subject","owner","state":"running"|"done"|"failed","percent","started_unix_ms",
/// "ended_unix_ms","result"|"error":{code,message}}.
boost::json::object to_json(const catalog::Operation& operation);

/// Any thread; calls wait for the database. How many are under way is bounded by those who do them.
class Operations {
 public:
  using WallClock = std::function<std::chrono::system_clock::time_point()>;

  /// How often the catalogue hears that they are still worked on.
  static constexpr std::chrono::milliseconds kBeat{1000};

  /// `owner`: this life of this process, as catalog::Operations::interrupt_former() takes it, which
  /// it calls. The catalogue must outlive stop().
  Operations(catalog::Catalog& catalog, std::string owner, WallClock wall_clock,
             telemetry::Logger log, std::chrono::milliseconds beat = kBeat);
  ~Operations() { stop(); }
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  struct Begun {
    catalog::Operation operation;
    bool is_new = false;  // false: the same is under way already, and whoever does it ends it
  };
  /// `what` is for people: "register", "verify". `request`: see catalog::NewOperation.
  base::Result<Begun> begin(std::string what, std::string subject, std::string request);
  void progress(const std::string& id, unsigned percent);
  /// Tried again with every beat while the catalogue cannot be written.
  void end(const std::string& id, const base::Result<boost::json::value>& outcome);

  /// Also while the database is away, if it is one of this registry's that has not been written to
  /// its end yet.
  base::Result<boost::json::object> find(const std::string& id) const;
  /// The newest first, without results.
  base::Result<boost::json::array> list(std::uint32_t limit) const;

  /// No beats any more: what has not ended will be held to be interrupted.
  void stop();

 private:
  struct Mine {
    catalog::Operation operation;
    std::optional<catalog::OperationOutcome> outcome;  // that the catalogue does not have yet
  };

  void keep_beating();
  void write_end(const std::string& id, const catalog::OperationOutcome& outcome);
  [[nodiscard]] std::int64_t now_unix_ms() const;

  catalog::Catalog& catalog_;
  const std::string owner_;
  WallClock wall_clock_;
  telemetry::Logger log_;
  const std::chrono::milliseconds beat_;
  const std::string prefix_;  // of ids: random
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::uint64_t next_ = 1;
  std::map<std::string, Mine> mine_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::registry
