// Calls to the admin API (/admin/v1/..) of a running Conclave, through its gateway: JSON in, JSON
// out, pages put together. It knows how calls look and nothing of what they do.
#pragma once

#include <boost/json.hpp>
#include <cstddef>
#include <filesystem>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// Where the API is and who asks. What is empty is found by AdminClient::open.
struct AdminTarget {
  std::string url;    // of the gateway
  std::string key;    // the secret of an API key
  std::string state;  // directory of `conclave up`
};

struct AdminCall {
  using Query = std::vector<std::pair<std::string, std::string>>;

  std::string method = "GET";
  std::string path;         // as admin_path makes it
  Query query;              // encoded by the client; an empty value is not sent
  boost::json::value body;  // null: none is sent
  std::string if_match;     // the ETag that the record must still have, or "*"; empty: any
};

struct AdminAnswer {
  unsigned status = 200;
  boost::json::value body;  // null where there is none
  std::string etag;         // as If-Match takes it; empty: none
  bool stale = false;       // the owner cannot reach its database and tells what it last knew
};

/// "/admin/v1" and one segment after the other, each percent-encoded; what a ':' of the API begins
/// is given as part of `action`: admin_path({"workers", name}, ":drain").
std::string admin_path(const std::vector<std::string_view>& segments, std::string_view action = {});

/// Any thread; every call blocks. One connection a call.
class AdminClient {
 public:
  /// The URL is the chosen one, or that of the `conclave up` of the state directory, or
  /// http://127.0.0.1:8000. The key is the chosen one, or that of the state directory
  /// (kAdminKeyFile), which is for this machine: it is sent to loopback addresses only. No key is
  /// no error: the server says what it thinks of that. kUnavailable: the key's file is there and
  /// cannot be read.
  static base::Result<AdminClient> open(const AdminTarget& target);

  /// Sends it and reads the answer; a status that is no 2xx is an error with what the server says:
  /// kNotFound (404), kFailedPrecondition (401, 403, 409, 412), kOverloaded (429), kUnavailable
  /// (503, and no answer at all), kDeadlineExceeded (504), kInternal (other 5xx), kInvalidArgument
  /// (all others). kCorruptData: the answer is no JSON.
  base::Result<AdminAnswer> call(const AdminCall& call) const;

  base::Result<AdminAnswer> get(std::string path, AdminCall::Query query = {}) const {
    return call({.path = std::move(path), .query = std::move(query)});
  }

  /// The records of all pages of a list ({"data": [..], "next": ..}), `most` at the most; `stale`
  /// is set if some page was. What `next` says goes into the argument `cursor` of the next page.
  /// Errors as of call(), and kCorruptData if pages are not of that form or lead nowhere.
  base::Result<boost::json::array> list(const std::string& path, const AdminCall::Query& query,
                                        std::size_t most, bool* stale = nullptr,
                                        const char* cursor = "after") const;

  [[nodiscard]] const std::string& url() const { return url_; }
  /// Calls end with kCancelled when it is asked to.
  void stop_with(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  AdminClient(std::string url, std::string key) : url_(std::move(url)), key_(std::move(key)) {}

  std::string url_;  // without a '/' at its end
  std::string key_;
  std::stop_token stop_;
};

/// What a JSON pointer ("/model/name") leads to as a cell of a table: text as it is, numbers and
/// booleans as JSON has them, arrays of such joined by ", "; empty for null, objects and nothing.
/// Control characters become '?'.
std::string cell(const boost::json::value& value, std::string_view pointer);

}  // namespace conclave::cli
