// The paths of one service's administration: which handler a request means, who may ask it, and the
// OpenAPI document that follows from them.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/admin/call.hpp"
#include "conclave/admin/reply.hpp"

namespace conclave::admin {

using Handler = std::function<base::Result<wire::AdminReply>(const Call& call)>;

/// An argument of the query, for the document.
struct Argument {
  std::string name;
  std::string meaning;
};

struct Route {
  std::string method;   // GET, POST, PUT, PATCH, DELETE
  std::string pattern;  // "/admin/v1/models/{name}/versions/{version}:publish"
  std::string summary;  // one sentence
  std::vector<Argument> arguments;
  std::vector<Argument> body;  // members of the body
  Handler handler;
  /// Who may, at least; kNone: kRead for GET, and kAdmin for all else.
  wire::AccessRole least = wire::AccessRole::kNone;
};

/// One thread at a time. Whose fault an error of a handler is, is read from its message: a
/// kInvalidArgument names the field first ("limit: ..", "split[1].weight is ..", "the name .."),
/// and what it names is the answer's `param` if the route has such an argument, member or
/// parameter.
class Routes {
 public:
  /// `refusal` makes the answer of an error, where the service knows better than error_reply().
  using Refusal = std::function<wire::AdminReply(const base::Error& error, std::string_view param)>;
  explicit Routes(Refusal refusal =
                      [](const base::Error& error, std::string_view param) {
                        return error_reply(error, param);
                      })
      : refusal_(std::move(refusal)) {}

  /// A pattern's parameters are whole segments, or all of a segment before a ":verb". A bug of ours
  /// (checked): a pattern twice for one method.
  void add(Route route);

  /// 404: no such path; 405: not with this method; 403: the subject may not.
  [[nodiscard]] wire::AdminReply serve(const wire::AdminRequest& request) const;

  [[nodiscard]] std::span<const Route> all() const { return routes_; }

 private:
  Refusal refusal_;
  std::vector<Route> routes_;
};

/// An OpenAPI 3.0 document of these routes.
boost::json::object openapi(std::span<const Route> routes, std::string_view version);

}  // namespace conclave::admin
