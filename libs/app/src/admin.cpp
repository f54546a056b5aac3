#include "conclave/app/admin.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <string_view>
#include <utility>

#include "conclave/http/server.hpp"

namespace conclave::app {
namespace {

namespace json = boost::json;

// Probes, one or two Prometheus servers and a curious person, each with a connection or two.
constexpr std::size_t kConnectionsMax = 64;
// Nothing here reads a body.
constexpr std::size_t kBodyBytesMax = 1024;

http::Response answer(unsigned status, const json::object& body) {
  http::Response response;
  response.status = status;
  response.body = json::serialize(body) + "\n";
  return response;
}

// The shape in which every HTTP interface of the project reports errors.
http::Response error(unsigned status, std::string_view message) {
  return answer(status, {{"error",
                          {{"message", message},
                           {"type", "invalid_request_error"},
                           {"param", nullptr},
                           {"code", nullptr}}}});
}

http::Response readiness(const base::Status& status) {
  if (status) return answer(200, {{"ready", true}});
  return answer(503, {{"ready", false}, {"reason", status.error().message}});
}

http::Response exposition(const telemetry::Metrics& metrics) {
  http::Response response;
  response.content_type = telemetry::kExpositionContentType;
  response.body = metrics.expose();
  return response;
}

http::Response respond_to(const http::Request& request, const AdminSources& sources) {
  if (request.method != "GET" && request.method != "HEAD") {
    http::Response response = error(405, "only GET is allowed here");
    response.headers.push_back({"Allow", "GET, HEAD"});
    return response;
  }
  if (request.path == "/health") return answer(200, {{"status", "ok"}});
  if (request.path == "/ready") return readiness(sources.ready());
  if (request.path == "/metrics") return exposition(sources.metrics);
  if (request.path == "/version") {
    return answer(
        200, {{"service", sources.service}, {"node", sources.node}, {"version", sources.version}});
  }
  return error(404, "there are /health, /ready, /metrics and /version");
}

}  // namespace

struct Admin::Impl {
  std::unique_ptr<http::Server> server;
};

Admin::Admin(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Admin::~Admin() = default;
Admin::Admin(Admin&&) noexcept = default;
Admin& Admin::operator=(Admin&&) noexcept = default;

base::Result<Admin> Admin::start(const AdminSettings& settings, AdminSources sources) {
  http::ServerOptions options;
  options.address = settings.host;
  options.port = settings.port;
  options.connections_max = kConnectionsMax;
  options.body_bytes_max = kBodyBytesMax;
  options.error_response = error;
  options.unix_time = [clock = sources.wall_clock] {
    const auto since_epoch = clock().time_since_epoch();
    return std::int64_t{std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count()};
  };
  auto handler = [sources = std::move(sources)](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->respond(respond_to(exchange->request(), sources));
  };
  auto server = http::Server::start(options, std::move(handler));
  if (!server) return base::fail(server.error().within("admin endpoint"));
  return Admin(std::make_unique<Impl>(Impl{*std::move(server)}));
}

std::uint16_t Admin::port() const { return impl_->server->port(); }

}  // namespace conclave::app
