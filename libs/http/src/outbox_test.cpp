// What tests with sockets cannot see: how often the connection's thread is woken.
#include "outbox.hpp"

#include <gtest/gtest.h>

#include <string>

namespace conclave::http {
namespace {

class OutboxTest : public ::testing::Test {
 protected:
  bool write(const std::string& chunk) {
    bool wake = false;
    EXPECT_TRUE(outbox_.write(number_, chunk, wake));
    return wake;
  }

  ServerCore core_{ServerOptions{}, nullptr};
  Outbox outbox_{core_};
  Outbox::Output output_;
  std::uint64_t number_ = outbox_.open({});
};

TEST_F(OutboxTest, NeedsNoWakingWhileTheHandlerIsCalled) {
  EXPECT_FALSE(outbox_.respond(number_, Response{}));

  outbox_.take(output_);
  EXPECT_TRUE(output_.bytes.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(output_.complete);
}

TEST_F(OutboxTest, WakesOnceForABurst) {
  outbox_.take(output_);  // nothing: the handler has only kept the exchange
  EXPECT_TRUE(output_.bytes.empty());

  EXPECT_TRUE(outbox_.begin(number_, Response{}));
  EXPECT_FALSE(write("a"));
  EXPECT_FALSE(write("b"));
  outbox_.take(output_);

  EXPECT_TRUE(output_.bytes.ends_with("\r\n\r\n1\r\na\r\n1\r\nb\r\n")) << output_.bytes;
}

TEST_F(OutboxTest, DoesNotWakeWhileBytesAreBeingWritten) {
  outbox_.begin(number_, Response{});
  outbox_.take(output_);

  EXPECT_FALSE(write("a"));  // the thread looks again when it has written
  outbox_.sent();
  EXPECT_FALSE(write("b"));
  outbox_.take(output_);
  EXPECT_EQ(output_.bytes, "1\r\na\r\n1\r\nb\r\n");
  outbox_.sent();
  outbox_.take(output_);  // nothing more: from now on it must be woken
  EXPECT_TRUE(output_.bytes.empty());
  EXPECT_TRUE(write("c"));
}

TEST_F(OutboxTest, CountsWhatIsBeingWrittenAsWaiting) {
  ServerOptions options;
  options.stream_buffer_bytes_max = 300;
  ServerCore core(options, nullptr);
  Outbox outbox(core);
  const auto number = outbox.open({});
  bool wake = false;
  outbox.begin(number, Response{});
  outbox.take(output_);
  outbox.sent();
  EXPECT_TRUE(outbox.write(number, std::string(200, 'x'), wake));
  outbox.take(output_);

  EXPECT_FALSE(outbox.write(number, std::string(200, 'x'), wake));

  EXPECT_TRUE(wake);  // although a write is in progress: it may never end
  EXPECT_TRUE(outbox.overflowed());
}

}  // namespace
}  // namespace conclave::http
