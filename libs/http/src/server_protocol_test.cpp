// What the server makes of bytes: requests as they may come, and requests that it must refuse.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "testing_server.hpp"

namespace conclave::http::testing {
namespace {

/// The answer to `bytes`, on a connection of its own.
RawResponse ask(Server& server, std::string_view bytes, bool head_only = false) {
  RawSocket client(server.port());
  client.send(bytes);
  return client.read_response(head_only);
}

TEST(ServerProtocolTest, HandsTheRequestOver) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());

  client.send(
      "PUT /v1/models%2Fx?limit=5&a=%20b HTTP/1.1\r\nHost: h\r\nX-Thing:  two words \r\n"
      "Content-Length: 4\r\nx-thing: second\r\n\r\nbody");
  const auto exchange = desk.next();
  ASSERT_NE(exchange, nullptr);
  const Request& request = exchange->request();

  EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(request.path, "/v1/models%2Fx");
  EXPECT_EQ(request.query, "limit=5&a=%20b");
  EXPECT_EQ(request.header("X-THING"), "two words");
  EXPECT_EQ(request.header("absent"), "");
  EXPECT_EQ(request.headers.size(), 4U);
  EXPECT_EQ(request.body, "body");
  EXPECT_TRUE(request.remote.starts_with("127.0.0.1:")) << request.remote;
}

TEST(ServerProtocolTest, AnswersWithStatusHeadersAndBody) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response = text("gone fishing");
    response.status = 429;
    response.headers = {{"Retry-After", "7"}};
    exchange->respond(std::move(response));
  });

  const RawResponse response = ask(*server, get("/"));

  EXPECT_TRUE(response.head.starts_with("HTTP/1.1 429 Too Many Requests\r\n")) << response.head;
  EXPECT_EQ(response.field("Retry-After"), "7");
  EXPECT_EQ(response.field("Content-Type"), "text/plain");
  EXPECT_EQ(response.field("Content-Length"), "12");
  EXPECT_EQ(response.field("Connection"), "");
  EXPECT_EQ(response.field("Date"), "");
  EXPECT_EQ(response.body, "gone fishing");
}

TEST(ServerProtocolTest, SaysTheDateWhenGivenAClock) {
  ServerOptions options;
  options.unix_time = [] { return std::int64_t{784111777}; };  // the example of RFC 9110
  const auto server = serve(echo, options);

  EXPECT_EQ(ask(*server, get("/")).field("Date"), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(ServerProtocolTest, KeepsHandlersFromBreakingTheFraming) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response = text("ok");
    response.headers = {{"content-length", "99"}, {"Transfer-Encoding", "chunked"},
                        {"connection", "close"},  {"X-Evil", "a\r\nInjected: yes\r\n\r\nbody"},
                        {"Bad Name", "x"},        {"Also:Bad\r\n", "x"}};
    exchange->respond(std::move(response));
  });

  const RawResponse response = ask(*server, get("/"));

  EXPECT_EQ(response.head,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
            "X-Evil: a  Injected: yes    body\r\n\r\n");
  EXPECT_EQ(response.body, "ok");
}

TEST(ServerProtocolTest, SendsAnImpossibleStatusAs500) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response = text("x");
    response.status = exchange->request().path == "/low" ? 42 : 777;
    exchange->respond(std::move(response));
  });

  EXPECT_EQ(ask(*server, get("/low")).status, 500U);
  EXPECT_EQ(ask(*server, get("/high")).status, 500U);
}

TEST(ServerProtocolTest, SendsNoBodyWhereNoneMayBe) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    Response response = text("unwanted");
    response.status = 204;
    exchange->respond(std::move(response));
  });
  RawSocket client(server->port());

  client.send(get("/"));
  EXPECT_EQ(client.read_response().head, "HTTP/1.1 204 No Content\r\n\r\n");
  client.send(get("/"));  // what follows is the next answer, not a body
  EXPECT_EQ(client.read_response().status, 204U);
}

TEST(ServerProtocolTest, AnswersHeadLikeGetWithoutTheBody) {
  const auto server = serve(echo);
  RawSocket client(server->port());

  client.send("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n" + get("/next"));
  const RawResponse head = client.read_response(true);

  EXPECT_EQ(head.status, 200U);
  EXPECT_EQ(head.field("Content-Length"), std::to_string(std::string("HEAD /abc|").size()));
  EXPECT_EQ(client.read_response().body, "GET /next|");
}

TEST(ServerProtocolTest, StreamsOnlyTheHeadToHead) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    exchange->begin(event_stream());
    EXPECT_TRUE(exchange->write("data: x\n\n"));
    exchange->end();
  });
  RawSocket client(server->port());

  client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + get("/"));

  EXPECT_EQ(client.read_response(true).field("Transfer-Encoding"), "chunked");
  EXPECT_EQ(client.read_response().body, "data: x\n\n");
}

TEST(ServerProtocolTest, TakesTheOtherFormsOfATarget) {
  const auto server = serve(echo);

  EXPECT_EQ(ask(*server, "GET http://host:1/a?b HTTP/1.1\r\nHost: h\r\n\r\n").body, "GET /a?b|");
  EXPECT_EQ(ask(*server, "GET HTTPS://host HTTP/1.1\r\nHost: h\r\n\r\n").body, "GET /|");
  EXPECT_EQ(ask(*server, "GET http://host?q HTTP/1.1\r\nHost: h\r\n\r\n").body, "GET /?q|");
  EXPECT_EQ(ask(*server, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").body, "OPTIONS *|");
}

TEST(ServerProtocolTest, ReadsChunkedBodies) {
  const auto server = serve(echo);

  const RawResponse response =
      ask(*server,
          "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
          "4\r\nWiki\r\n6;ext=\"q\"\r\npedia \r\n3\r\nin \r\n0\r\n"
          "X-Check: 3\r\nHost: other\r\n\r\n");

  EXPECT_EQ(response.body, "POST /c|Wikipedia in ");
}

TEST(ServerProtocolTest, ReadsRequestsThatComeByteByByte) {
  const auto server = serve(echo);
  const std::string chunked =
      "\r\n\r\nPOST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
  const std::string empty =
      "POST /e HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  const std::string plain = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
  RawSocket client(server->port());

  for (const std::string& request : {chunked, empty, plain}) {
    for (const char byte : request) ASSERT_TRUE(client.send(std::string_view(&byte, 1)));
  }

  EXPECT_EQ(client.read_response().body, "POST /c|abc");
  EXPECT_EQ(client.read_response().body, "POST /e|");
  EXPECT_EQ(client.read_response().body, "POST /p|abc");
}

TEST(ServerProtocolTest, AnswersPipelinedRequestsInTheirOrder) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());

  client.send(get("/1") + "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi" + get("/3"));
  for (const std::string path : {"/1", "/2", "/3"}) {
    const auto exchange = desk.next();
    ASSERT_NE(exchange, nullptr);
    EXPECT_EQ(exchange->request().path, path);
    EXPECT_EQ(desk.waiting(), 0U);  // one after the other
    echo(exchange);
  }

  EXPECT_EQ(client.read_response().body, "GET /1|");
  EXPECT_EQ(client.read_response().body, "POST /2|hi");
  EXPECT_EQ(client.read_response().body, "GET /3|");
}

TEST(ServerProtocolTest, TakesMorePipelinedRequestsThanItReadsAhead) {
  Desk desk;
  const auto server = serve(desk.handler());
  RawSocket client(server->port());
  constexpr int kRequests = 2000;
  std::string requests;
  for (int i = 0; i < kRequests; ++i)
    requests += get("/" + std::string(90, 'x') + std::to_string(i));

  std::thread sender([&] { client.send(requests); });
  for (int i = 0; i < kRequests; ++i) {
    const auto exchange = desk.next();
    ASSERT_NE(exchange, nullptr);
    exchange->respond(text(std::to_string(i)));
  }
  sender.join();

  for (int i = 0; i < kRequests; ++i) ASSERT_EQ(client.read_response().body, std::to_string(i));
}

TEST(ServerProtocolTest, SaysContinueToWhoAsks) {
  const auto server = serve(echo);
  RawSocket client(server->port());

  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n");
  EXPECT_EQ(client.read_through("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi");

  EXPECT_EQ(client.read_response().body, "POST /|hi");
}

TEST(ServerProtocolTest, DoesNotSayContinueWhenTheBodyIsThere) {
  const auto server = serve(echo);

  const RawResponse response = ask(
      *server, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi");

  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, "POST /|hi");
}

TEST(ServerProtocolTest, RefusesABodyBeforeItIsSent) {
  ServerOptions options;
  options.body_bytes_max = 10;
  const auto server = serve(echo, options);

  const RawResponse response = ask(
      *server, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");

  EXPECT_EQ(response.status, 413U);
  EXPECT_EQ(response.field("Connection"), "close");
}

TEST(ServerProtocolTest, BoundsBodies) {
  ServerOptions options;
  options.body_bytes_max = 10;
  const auto server = serve(echo, options);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";

  EXPECT_EQ(ask(*server, head + "Content-Length: 10\r\n\r\n0123456789").body, "POST /|0123456789");
  EXPECT_EQ(ask(*server, head + "Content-Length: 11\r\n\r\n").status, 413U);
  EXPECT_EQ(ask(*server, head + "Content-Length: 18446744073709551615\r\n\r\n").status, 413U);
  EXPECT_EQ(ask(*server, head + "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n").status,
            413U);
  EXPECT_EQ(ask(*server, head + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n").status,
            413U);
}

TEST(ServerProtocolTest, LetsAClientThatStillSendsReadTheRefusal) {
  ServerOptions options;
  options.body_bytes_max = 1000;
  const auto server = serve(echo, options);
  RawSocket client(server->port());
  const std::string body(std::size_t{4} << 20, 'x');

  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n");
  client.send(body);

  EXPECT_EQ(client.read_response().status, 413U);
}

TEST(ServerProtocolTest, BoundsHeaders) {
  ServerOptions options;
  options.header_bytes_max = 512;
  const auto server = serve(echo, options);
  const std::string start = "GET / HTTP/1.1\r\nHost: h\r\n";

  EXPECT_EQ(ask(*server, start + "X: " + std::string(400, 'a') + "\r\n\r\n").status, 200U);
  EXPECT_EQ(ask(*server, start + "X: " + std::string(600, 'a') + "\r\n\r\n").status, 431U);
  EXPECT_EQ(ask(*server, "GET /" + std::string(600, 'a')).status, 431U);
}

TEST(ServerProtocolTest, BoundsHeadersThatTrickleIn) {
  ServerOptions options;
  options.header_bytes_max = 512;
  const auto server = serve(echo, options);
  RawSocket client(server->port());

  // Each field ends where a read ends, so the parser never sees many of them at once.
  client.send("GET / HTTP/1.1\r\nHost: h\r\n");
  for (int i = 0; i < 100; ++i) client.send("X-Field: 0123456789\r\n");

  EXPECT_EQ(client.read_response().status, 431U);
}

TEST(ServerProtocolTest, BoundsChunkHeadersAndTrailers) {
  const auto server = serve(echo);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string much(std::size_t{1} << 17, 'a');

  EXPECT_EQ(ask(*server, head + "5;x=" + much).status, 400U);
  EXPECT_EQ(ask(*server, head + "0\r\nX: " + much).status, 400U);
}

TEST(ServerProtocolTest, RefusesMalformedRequests) {
  const auto server = serve(echo);
  const std::vector<std::string> malformed = {
      "GET\r\n\r\n",
      "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03\r\n\r\n",  // TLS
      "GET / HTTP/x.y\r\nHost: h\r\n\r\n",
      "GET /\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
      "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET / HTTP/1.1\nHost: h\n\n",
      "GET relative HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nNo colon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nSpace : x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nX: a\x01"
      "b\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n",                        // no Host
      "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",  // two
  };

  for (const std::string& request : malformed) {
    const RawResponse response = ask(*server, request);
    EXPECT_EQ(response.status, 400U) << request;
    EXPECT_EQ(response.field("Connection"), "close") << request;
  }
  EXPECT_EQ(server->stats().requests, 0U);
  EXPECT_EQ(server->stats().requests_rejected, malformed.size());
}

TEST(ServerProtocolTest, RefusesWhatCouldBeReadInTwoWays) {
  const auto server = serve(echo);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::vector<std::string> ambiguous = {
      head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
      head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
      head + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
      head + "Content-Length: 4, 4\r\n\r\nabcd",
      head + "Content-Length: +4\r\n\r\nabcd",
      head + "Content-Length: -1\r\n\r\n",
      head + "Content-Length: 0x4\r\n\r\nabcd",
      head + "Content-Length:\r\n\r\n",
      head + "Content-Length: 99999999999999999999\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  };

  for (const std::string& request : ambiguous)
    EXPECT_EQ(ask(*server, request).status, 400U) << request;
  EXPECT_EQ(server->stats().requests, 0U);
}

TEST(ServerProtocolTest, RefusesCodingsThatItDoesNotKnow) {
  const auto server = serve(echo);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: ";

  for (const std::string coding : {"gzip, chunked", "chunked, gzip", "identity", "xchunked", ""}) {
    EXPECT_EQ(ask(*server, head + coding + "\r\n\r\n0\r\n\r\n").status, 501U) << coding;
  }
}

TEST(ServerProtocolTest, RefusesWhatItDoesNotSpeak) {
  const auto server = serve(echo);

  EXPECT_EQ(ask(*server, "GET / HTTP/2.0\r\nHost: h\r\n\r\n").status, 505U);
  EXPECT_EQ(ask(*server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, 505U);
  EXPECT_EQ(ask(*server, "GET / HTTP/1.2\r\nHost: h\r\n\r\n").status, 505U);
  EXPECT_EQ(ask(*server, "GET / HTTP/3\r\nHost: h\r\n\r\n").status, 505U);
  EXPECT_EQ(ask(*server, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").status, 501U);
  EXPECT_EQ(ask(*server, "GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n").status, 417U);
}

TEST(ServerProtocolTest, ShapesItsOwnErrorsAsTheOwnerWants) {
  ServerOptions options;
  options.error_response = [](unsigned status, const std::string& message) {
    Response response;
    response.status = 200;  // not its choice
    response.body = "{\"error\":\"" + std::to_string(status) + " " + message + "\"}";
    return response;
  };
  const auto server = serve([](const std::shared_ptr<Exchange>&) {}, options);

  const RawResponse malformed = ask(*server, "nonsense\r\n\r\n");
  EXPECT_EQ(malformed.status, 400U);
  EXPECT_EQ(malformed.field("Content-Type"), "application/json");
  EXPECT_TRUE(malformed.body.starts_with("{\"error\":\"400 The request is malformed"))
      << malformed.body;
  const RawResponse unanswered = ask(*server, get("/"));
  EXPECT_EQ(unanswered.status, 500U);
  EXPECT_EQ(unanswered.body, "{\"error\":\"500 The request was not answered.\"}");
}

TEST(ServerProtocolTest, KeepsTheConnectionOnlyAsAsked) {
  const auto server = serve(echo);
  RawSocket kept(server->port());
  RawSocket closing(server->port());
  RawSocket old(server->port());
  RawSocket old_kept(server->port());

  kept.send(get("/1"));
  EXPECT_EQ(kept.read_response().status, 200U);
  kept.send(get("/2"));
  EXPECT_EQ(kept.read_response().body, "GET /2|");

  closing.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n");
  EXPECT_EQ(closing.read_response().field("Connection"), "close");
  EXPECT_TRUE(closing.closed_by_server());

  old.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.read_response().field("Connection"), "close");
  EXPECT_TRUE(old.closed_by_server());

  old_kept.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(old_kept.read_response().field("Connection"), "keep-alive");
  old_kept.send("GET /2 HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old_kept.read_response().body, "GET /2|");
}

TEST(ServerProtocolTest, DoesNotServeWhatFollowsAClose) {
  const auto server = serve(echo);
  RawSocket client(server->port());

  client.send("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + get("/2"));

  EXPECT_EQ(client.read_response().body, "GET /1|");
  EXPECT_TRUE(client.closed_by_server());
  EXPECT_EQ(server->stats().requests, 1U);
}

TEST(ServerProtocolTest, StreamsToOldClientsUntilTheConnectionEnds) {
  const auto server = serve([](const std::shared_ptr<Exchange>& exchange) {
    exchange->begin(event_stream());
    exchange->write("data: 1\n\n");
    exchange->write("data: 2\n\n");
    exchange->end();
  });
  RawSocket client(server->port());

  client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");

  EXPECT_EQ(client.read_to_end(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            "data: 1\n\ndata: 2\n\n");
}

}  // namespace
}  // namespace conclave::http::testing
