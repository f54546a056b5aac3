#include "conclave/http/client.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "conclave/http/sse.hpp"
#include "testing_server.hpp"

namespace conclave::http::testing {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;

std::string url(const Server& server, std::string_view path = "/") {
  return "http://127.0.0.1:" + std::to_string(server.port()) + std::string(path);
}

/// A listening socket that answers one connection with given bytes and closes it.
class CannedServer {
 public:
  explicit CannedServer(std::string answer)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, 1), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([fd = fd_, answer = std::move(answer)] {
      const int client = ::accept(fd, nullptr, nullptr);
      char bytes[4096];
      if (::recv(client, bytes, sizeof bytes, 0) > 0) {
        EXPECT_EQ(::send(client, answer.data(), answer.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(answer.size()));
      }
      ::close(client);
    });
  }
  ~CannedServer() {
    thread_.join();
    ::close(fd_);
  }
  CannedServer(const CannedServer&) = delete;
  CannedServer& operator=(const CannedServer&) = delete;

  [[nodiscard]] std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/";
  }

 private:
  int fd_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

TEST(ClientTest, SendsWhatIsAsked) {
  Desk desk;
  const auto server = serve(desk.handler());
  std::thread answerer([&] {
    const auto exchange = desk.next();
    EXPECT_EQ(exchange->request().header("x-thing"), "a b");
    EXPECT_EQ(exchange->request().header("X-Empty"), "");
    EXPECT_EQ(exchange->request().header("Expect"), "");
    Response response =
        text(exchange->request().method + exchange->request().query + exchange->request().body);
    response.status = 418;
    response.headers = {{"X-Back", "yes"}};
    exchange->respond(std::move(response));
  });

  ClientRequest request;
  request.method = "PATCH";
  request.url = url(*server, "/p?q=1");
  request.headers = {{"X-Thing", "a b"}, {"X-Empty", ""}};
  request.body = std::string("with\0null", 9);
  const auto response = fetch(request);
  answerer.join();

  ASSERT_TRUE(response.has_value()) << response.error().to_string();
  EXPECT_EQ(response->status, 418U);
  EXPECT_EQ(response->header("x-back"), "yes");
  EXPECT_EQ(response->content_type, "text/plain");
  EXPECT_EQ(response->body, "PATCHq=1" + request.body);
}

TEST(ClientTest, SendsEveryMethod) {
  const auto server = serve(echo);

  for (const std::string method : {"GET", "POST", "PUT", "DELETE", "OPTIONS"}) {
    ClientRequest request;
    request.method = method;
    request.url = url(*server);
    const auto response = fetch(request);
    ASSERT_TRUE(response.has_value()) << response.error().to_string();
    EXPECT_EQ(response->body, method + " /|");
  }
  ClientRequest head;
  head.method = "HEAD";
  head.url = url(*server);
  EXPECT_EQ(fetch(head).value().header("Content-Length"), "7");
}

TEST(ClientTest, AddsNoHeadersOfItsOwn) {
  Desk desk;
  const auto server = serve(desk.handler());
  std::vector<Header> headers;
  std::thread answerer([&] {
    const auto exchange = desk.next();
    headers = exchange->request().headers;
    exchange->respond({});
  });
  ClientRequest request;
  request.method = "POST";
  request.url = url(*server);
  request.body = "{}";
  request.headers = {{"Authorization", "Bearer x"}};

  EXPECT_TRUE(fetch(request).has_value());
  answerer.join();

  EXPECT_EQ(headers, (std::vector<Header>{{"Host", "127.0.0.1:" + std::to_string(server->port())},
                                          {"Accept", "*/*"},
                                          {"Authorization", "Bearer x"},
                                          {"Content-Length", "2"}}));
}

TEST(ClientTest, SendsLargeBodies) {
  const auto server = serve(echo);
  ClientRequest request;
  request.method = "POST";
  request.url = url(*server);
  request.body = std::string(std::size_t{5} << 20, 'x');

  EXPECT_EQ(fetch(request).value().body.size(), request.body.size() + 7);
}

TEST(ClientTest, NamesWhatWentWrong) {
  const auto code = [](std::string address) {
    ClientRequest request;
    request.url = std::move(address);
    const auto response = fetch(request);
    return response ? ErrorCode{} : response.error().code;
  };
  std::string gone;
  {
    const auto server = serve(echo);
    gone = url(*server);
  }

  EXPECT_EQ(code(gone), ErrorCode::kUnavailable);
  EXPECT_EQ(code("http://host.invalid/"), ErrorCode::kUnavailable);
  EXPECT_EQ(code("ftp://127.0.0.1/"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("http://127.0.0.1:99999/"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("http://[::1/"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(""), ErrorCode::kInvalidArgument);
}

TEST(ClientTest, RefusesHeadersThatWouldBreakTheRequest) {
  const auto server = serve(echo);
  for (const Header& header : {Header{"X", "a\r\nY: b"}, Header{"X\n", "a"}, Header{"", "a"}}) {
    ClientRequest request;
    request.url = url(*server);
    request.headers = {header};
    EXPECT_EQ(fetch(request).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(ClientTest, GivesUpInTime) {
  Desk desk;
  const auto server = serve(desk.handler());
  ClientRequest request;
  request.url = url(*server);
  request.timeout = milliseconds{50};

  const auto response = fetch(request);

  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_NE(desk.next(), nullptr);  // it did ask
}

TEST(ClientTest, StopsWhenAsked) {
  Desk desk;
  const auto server = serve(desk.handler());
  std::stop_source source;
  ClientRequest request;
  request.url = url(*server);
  request.stop = source.get_token();
  std::shared_ptr<Exchange> exchange;
  std::thread stopper([&] {
    exchange = desk.next();
    source.request_stop();
  });

  const auto response = fetch(request);
  stopper.join();

  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, ErrorCode::kCancelled);
}

TEST(ClientTest, BoundsTheAnswer) {
  const auto server = serve(echo);
  ClientRequest request;
  request.url = url(*server);
  request.body_bytes_max = std::string("GET /|").size();
  EXPECT_TRUE(fetch(request).has_value());

  request.body_bytes_max -= 1;
  EXPECT_EQ(fetch(request).error().code, ErrorCode::kFailedPrecondition);
}

TEST(ClientTest, SeesBrokenAnswers) {
  const auto code = [](std::string answer) {
    CannedServer server(std::move(answer));
    ClientRequest request;
    request.url = server.url();
    const auto response = fetch(request);
    return response ? ErrorCode{} : response.error().code;
  };

  EXPECT_EQ(code("SSH-2.0-OpenSSH\r\n"), ErrorCode::kCorruptData);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), ErrorCode::kUnavailable);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
            ErrorCode::kUnavailable);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            ErrorCode::kUnavailable);
  EXPECT_EQ(code(""), ErrorCode::kUnavailable);
  EXPECT_EQ(code("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), ErrorCode{});
}

TEST(ClientTest, DoesNotFollowRedirects) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response;
    response.status = 302;
    response.headers = {{"Location", "/elsewhere"}};
    exchange->respond(std::move(response));
  });
  ClientRequest request;
  request.url = url(*server);

  EXPECT_EQ(fetch(request).value().status, 302U);
  EXPECT_EQ(server->stats().requests, 1U);
}

TEST(ClientStreamTest, GivesChunksAsTheyCome) {
  Desk desk;
  const auto server = serve(desk.handler());
  ClientRequest request;
  request.url = url(*server);
  Signal first_seen;
  std::thread answerer([&] {
    const auto exchange = desk.next();
    exchange->begin(event_stream());
    EXPECT_TRUE(exchange->write(sse_event("1")));
    EXPECT_TRUE(first_seen.wait());  // before the second is sent
    EXPECT_TRUE(exchange->write(sse_event("2")));
    exchange->end();
  });
  SseParser parser;
  std::vector<std::string> data;

  const auto response = stream(request, [&](std::string_view chunk) {
    const auto events = parser.push(chunk).value();
    for (const SseEvent& event : events) data.push_back(event.data);
    first_seen.set();
    return true;
  });
  answerer.join();

  ASSERT_TRUE(response.has_value()) << response.error().to_string();
  EXPECT_EQ(response->status, 200U);
  EXPECT_EQ(response->content_type, "text/event-stream");
  EXPECT_EQ(response->body, "");
  EXPECT_EQ(data, (std::vector<std::string>{"1", "2"}));
}

TEST(ClientStreamTest, EndsWhenTheCallerHasEnough) {
  Desk desk;
  const auto server = serve(desk.handler());
  ClientRequest request;
  request.url = url(*server);
  Signal lost;
  std::shared_ptr<Exchange> exchange;
  std::thread answerer([&] {
    exchange = desk.next();
    exchange->on_close([&] { lost.set(); });
    exchange->begin(event_stream());
    exchange->write("x");
  });

  const auto response = stream(request, [](std::string_view) { return false; });
  answerer.join();

  EXPECT_EQ(response.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(lost.wait());  // the server hears of it
}

TEST(ClientStreamTest, KeepsTheBodyOfAnError) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response = text("no such model");
    response.status = 404;
    exchange->respond(std::move(response));
  });
  ClientRequest request;
  request.url = url(*server);

  const auto response = stream(request, [](std::string_view) {
    ADD_FAILURE() << "an error is no stream";
    return true;
  });

  EXPECT_EQ(response.value().status, 404U);
  EXPECT_EQ(response.value().body, "no such model");
}

TEST(ClientStreamTest, SeesAStreamThatIsCut) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    exchange->begin(event_stream());
    exchange->write(sse_event("half"));
  });
  ClientRequest request;
  request.url = url(*server);
  std::string seen;

  const auto response = stream(request, [&](std::string_view chunk) {
    seen.append(chunk);
    return true;
  });

  EXPECT_EQ(response.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::http::testing
