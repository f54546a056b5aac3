// Work that takes longer than a request may wait, registering and verifying files: what is under
// way, how far it is, and what came of it.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::registry {

/// Any thread. Of those that ended the last kKeptMax are kept; how many are under way is bounded by
/// the Registrar.
class Operations {
 public:
  static constexpr std::size_t kKeptMax = 256;

  /// `prefix`: of the ids, unique for this life of this process.
  explicit Operations(std::string prefix) : prefix_(std::move(prefix)) {}

  /// A new one; its id. `what` is for people: "register", "verify".
  std::string begin(std::string what, std::string subject);
  void progress(const std::string& id, unsigned percent);
  void end(const std::string& id, base::Result<boost::json::value> outcome);

  /// {"id","what","subject","state":"running"|"done"|"failed","percent","result"|"error"}.
  [[nodiscard]] std::optional<boost::json::object> find(const std::string& id) const;

 private:
  struct Operation {
    std::string what;
    std::string subject;
    unsigned percent = 0;
    std::optional<base::Result<boost::json::value>> outcome;
  };

  const std::string prefix_;
  mutable std::mutex mutex_;  // guards what follows
  std::uint64_t next_ = 1;
  std::map<std::string, Operation> operations_;
  std::deque<std::string> ended_;
};

}  // namespace conclave::registry
