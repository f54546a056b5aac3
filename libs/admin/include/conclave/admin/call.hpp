// One administrative request as a handler sees it: parameters of the path, of the query and of the
// body, each read with an error that names it.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/wire/admin.hpp"

namespace conclave::admin {

/// How the message about a member that nobody knows ends, after the member's name.
inline constexpr std::string_view kNoSuchMember = " is no member that there is";

/// Borrows the request. One thread.
class Call {
 public:
  Call(const wire::AdminRequest& request, std::map<std::string, std::string> path)
      : request_(request), path_(std::move(path)) {}

  [[nodiscard]] const wire::AdminRequest& request() const { return request_; }

  /// The parameter `{name}` of the path, decoded. It is there: the pattern says so.
  [[nodiscard]] const std::string& text(const std::string& name) const { return path_.at(name); }
  /// The same as a whole number. kNotFound: it is none, so there is nothing of that name.
  [[nodiscard]] base::Result<std::uint32_t> number(const std::string& name) const;

  /// An argument of the query; empty: not given.
  [[nodiscard]] std::string argument(std::string_view name) const;
  /// kInvalidArgument: no whole number from `least` to `most`.
  [[nodiscard]] base::Result<std::uint64_t> argument(std::string_view name, std::uint64_t otherwise,
                                                     std::uint64_t least, std::uint64_t most) const;
  /// `limit`, 1 to kPageMax, 100 if it is not given.
  [[nodiscard]] base::Result<std::uint32_t> limit() const;
  /// `dry_run`: true or false, false if it is not given.
  [[nodiscard]] base::Result<bool> dry_run() const;

  /// What If-Match asks for: a revision, or nothing. kInvalidArgument: no ETag of ours.
  [[nodiscard]] base::Result<std::optional<std::uint64_t>> if_match() const;

  /// The body as an object; an empty body is an empty one. kInvalidArgument: no JSON, or no object,
  /// or a member that `members` does not list.
  [[nodiscard]] base::Result<boost::json::object> body(
      std::initializer_list<std::string_view> members) const;
  /// The same without a look at its members.
  [[nodiscard]] base::Result<boost::json::object> any_body() const;

  static constexpr std::uint32_t kPageMax = 1000;

 private:
  const wire::AdminRequest& request_;
  std::map<std::string, std::string> path_;
};

/// A member of a body that is text; nothing if it is not there. kInvalidArgument: something else.
base::Result<std::optional<std::string>> text_member(const boost::json::object& body,
                                                     std::string_view name);
/// Likewise for whole numbers from 0 to `most`.
base::Result<std::optional<std::uint64_t>> number_member(const boost::json::object& body,
                                                         std::string_view name, std::uint64_t most);
base::Result<std::optional<bool>> bool_member(const boost::json::object& body,
                                              std::string_view name);

/// kInvalidArgument: "NAME is missing".
base::Result<std::string> required(base::Result<std::optional<std::string>> member,
                                   std::string_view name);

}  // namespace conclave::admin
