#include "redis_link.hpp"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::quota {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kErrorBytesMax = 200;

// Refused by a replica, by a server without room or that is loading, and by rights that are too
// few, as our scripts would be. It leaves nothing behind.
constexpr const char* kProbe = "redis.call('SET', KEYS[1], '1', 'PX', '1000') return 1";
constexpr const char* kProbeKey = "conclave:probe";

const redisReplyObjectFunctions& stock_functions() {
  static const redisReplyObjectFunctions functions = [] {
    redisReader* const reader = redisReaderCreate();
    CONCLAVE_CHECK(reader != nullptr);
    const redisReplyObjectFunctions copy = *reader->fn;
    redisReaderFree(reader);
    return copy;
  }();
  return functions;
}

// hiredis would allocate what a header announces, before a single element has come. Ours are flat:
// lists within lists would grow without ever being a whole reply, or filling the buffer.
void* create_bounded_array(const redisReadTask* task, int elements) {
  const bool fits = task->parent == nullptr && elements >= 0 &&
                    static_cast<std::size_t>(elements) <= RedisLink::kElementsMax;
  return fits ? stock_functions().createArray(task, elements) : nullptr;  // null: "out of memory"
}

redisReplyObjectFunctions* bounded_functions() {
  static redisReplyObjectFunctions functions = [] {
    redisReplyObjectFunctions made = stock_functions();
    made.createArray = create_bounded_array;
    return made;
  }();
  return &functions;
}

Status broken(std::string message) { return fail(ErrorCode::kUnavailable, std::move(message)); }

std::string shown(const char* text, std::size_t size) {
  std::string plain(text, std::min(size, kErrorBytesMax));
  std::ranges::replace_if(
      plain, [](char c) { return c < ' ' || c > '~'; }, '?');
  return plain;
}

// Says no to everybody: -READONLY, -OOM, -LOADING, -NOPERM .., which Redis 6 wraps where a script
// meets them. Others are about one command.
bool refuses_all(std::string_view error) {
  if (error.starts_with("ERR ")) {
    constexpr std::string_view kWrapped[] = {"-READONLY", "-OOM", "-MISCONF", "can't run this"};
    return std::ranges::any_of(
        kWrapped, [&](std::string_view word) { return error.find(word) != error.npos; });
  }
  return !error.starts_with("WRONGTYPE ");
}

Result<RedisLink::Numbers> numbers_of(const redisReply& reply) {
  RedisLink::Numbers numbers;
  switch (reply.type) {
    case REDIS_REPLY_STATUS:
      return numbers;
    case REDIS_REPLY_INTEGER:
      numbers.push_back(reply.integer);
      return numbers;
    case REDIS_REPLY_ERROR:
      return fail(
          refuses_all({reply.str, reply.len}) ? ErrorCode::kUnavailable : ErrorCode::kInternal,
          "Redis says: " + shown(reply.str, reply.len));
    case REDIS_REPLY_ARRAY:
      for (std::size_t i = 0; i < reply.elements; ++i) {
        if (reply.element[i]->type != REDIS_REPLY_INTEGER) break;
        numbers.push_back(reply.element[i]->integer);
      }
      if (numbers.size() == reply.elements) return numbers;
      break;
    default:
      break;
  }
  return fail(ErrorCode::kCorruptData, "Redis answers what is no list of numbers");
}

int poll_ms(RedisLink::Numbers::value_type left_ms) {
  return static_cast<int>(std::clamp<std::int64_t>(left_ms, 0, 60'000));
}

}  // namespace

void RedisLink::Free::operator()(redisContext* context) const { redisFree(context); }

RedisLink::Wake::Wake() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CONCLAVE_CHECK(fd_ >= 0);
}
RedisLink::Wake::~Wake() { ::close(fd_); }

void RedisLink::Wake::set() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof(one));  // full: it is set
}

void RedisLink::Wake::clear() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd_, &count, sizeof(count));  // empty: it is clear
}

RedisLink::RedisLink(RedisOptions options) : options_(std::move(options)) {
  thread_ = std::thread([this] { run(); });
}

RedisLink::~RedisLink() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.set();
  thread_.join();
}

void RedisLink::call(std::vector<std::string> command, Then then) {
  const char* why = "Redis is away";
  {
    const std::lock_guard lock(mutex_);
    if (up_ && !stop_ && queue_.size() < kCallsMax) {
      queue_.push_back({std::move(command), std::move(then), Clock::now() + options_.timeout});
      why = nullptr;
    } else if (up_) {
      why = "Too many calls wait for Redis";
    }
  }
  if (why == nullptr) {
    wake_.set();
  } else {
    then(fail(ErrorCode::kUnavailable, why));
  }
}

bool RedisLink::stopping() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void RedisLink::run() {
  // write() to a connection that the other side has closed would end the process.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  milliseconds rest = kPauseMin;
  std::string said;
  while (!stopping()) {
    answered_ = false;
    Status status = open();
    if (status) status = shake_hands();
    if (status) {
      said.clear();
      set_up(true, {});
      status = serve();
    }
    if (status) break;  // it is to end
    const bool was_up = up_;
    set_up(false, {});
    fail_all(status.error());
    // Said once for each cause: it may be away for long.
    const bool is_news = was_up || status.error().message != said;
    said = status.error().message;
    if (is_news && options_.changed) options_.changed(false, said);
    context_.reset();
    rest = answered_ ? kPauseMin : std::min(rest * 2, kPauseMax);
    pause(rest);
  }
  set_up(false, {});
  fail_all({ErrorCode::kUnavailable, "the link to Redis ends"});
}

void RedisLink::set_up(bool up, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    up_ = up;
  }
  if (up && options_.changed) options_.changed(true, why);
}

void RedisLink::fail_all(const base::Error& error) {
  std::deque<Call> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(queue_);
  }
  std::deque<Call> sent = std::exchange(open_, {});
  for (Call& call : sent) call.then(fail(ErrorCode::kDeadlineExceeded, error.message));
  for (Call& call : waiting) call.then(fail(ErrorCode::kUnavailable, error.message));
}

void RedisLink::pause(milliseconds time) {
  const auto until = Clock::now() + time;
  while (!stopping()) {
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
    if (left.count() <= 0) return;
    pollfd fds{.fd = wake_.fd(), .events = POLLIN, .revents = 0};
    ::poll(&fds, 1, poll_ms(left.count()));
    wake_.clear();
  }
}

Status RedisLink::open() {
  context_.reset(redisConnectNonBlock(options_.address.host.c_str(), options_.address.port));
  if (!context_) return broken("no memory for a connection");
  if (context_->err != 0) return broken(context_->errstr);
  has_output_ = false;
  context_->reader->fn = bounded_functions();
  const auto deadline = Clock::now() + kConnectTimeout;
  while (true) {
    pollfd fds[] = {{context_->fd, POLLOUT, 0}, {wake_.fd(), POLLIN, 0}};
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return broken("no connection within a second");
    ::poll(fds, 2, poll_ms(left.count()));
    if (fds[1].revents != 0) wake_.clear();
    if (stopping()) return broken("the link ends");
    if (fds[0].revents != 0) break;
  }
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(context_->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return broken(std::strerror(error));
  return {};
}

Status RedisLink::shake_hands() {
  const RedisAddress& to = options_.address;
  std::vector<std::vector<std::string>> words;
  if (!to.user.empty()) {
    words.push_back({"AUTH", to.user, to.password});
  } else if (!to.password.empty()) {
    words.push_back({"AUTH", to.password});
  }
  if (to.database != 0) words.push_back({"SELECT", std::to_string(to.database)});
  words.push_back({"EVAL", kProbe, "1", kProbeKey});
  const auto deadline = Clock::now() + kConnectTimeout;
  std::size_t left = words.size();
  std::optional<base::Error> refused;
  for (auto& command : words) {
    send({std::move(command),
          [&](const Result<Numbers>& reply) {
            --left;
            if (!reply && !refused) refused = reply.error();
          },
          deadline});
  }
  while (left != 0) {
    const Status status = round(deadline);
    if (!status) {
      open_.clear();  // their `then` is of this frame
      return status;
    }
    if (stopping()) {
      open_.clear();
      return broken("the link ends");
    }
  }
  if (refused) return fail(*refused);
  return {};
}

Status RedisLink::serve() {
  std::optional<Clock::time_point> last;  // once it is to end
  while (true) {
    take_queue();
    if (stopping()) {
      if (open_.empty()) return {};
      if (!last) last = Clock::now() + options_.timeout;
      if (Clock::now() >= *last) return {};
    }
    CONCLAVE_TRY_VOID(round(last.value_or(Clock::time_point::max())));
  }
}

void RedisLink::take_queue() {
  std::deque<Call> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(queue_);
  }
  for (Call& call : calls) send(std::move(call));
}

void RedisLink::send(Call call) {
  std::vector<const char*> words;
  std::vector<std::size_t> sizes;
  for (const std::string& word : call.command) {
    words.push_back(word.data());
    sizes.push_back(word.size());
  }
  const int appended = redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()),
                                              words.data(), sizes.data());
  if (appended != REDIS_OK) {
    call.then(fail(ErrorCode::kUnavailable, "no memory for a command"));
    return;
  }
  has_output_ = true;
  call.command.clear();
  open_.push_back(std::move(call));
}

Status RedisLink::round(Clock::time_point until) {
  if (has_output_) {
    int done = 0;
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return broken(context_->errstr);
    has_output_ = done == 0;
  }
  const auto now = Clock::now();
  if (!open_.empty()) {
    if (open_.front().deadline <= now) return broken("no answer in time");
    until = std::min(until, open_.front().deadline);
  }
  const auto events = static_cast<short>(has_output_ ? POLLIN | POLLOUT : POLLIN);
  pollfd fds[] = {{context_->fd, events, 0}, {wake_.fd(), POLLIN, 0}};
  const bool is_endless = until == Clock::time_point::max();
  ::poll(fds, 2, is_endless ? -1 : poll_ms(std::chrono::ceil<milliseconds>(until - now).count()));
  if (fds[1].revents != 0) wake_.clear();
  if ((fds[0].revents & ~POLLOUT) != 0) return receive();
  return {};
}

Status RedisLink::receive() {
  if (redisBufferRead(context_.get()) != REDIS_OK) return broken(context_->errstr);
  while (true) {
    void* raw = nullptr;
    if (redisGetReplyFromReader(context_.get(), &raw) != REDIS_OK) {
      return broken(std::string("it answers nonsense: ") + context_->errstr);
    }
    if (raw == nullptr) break;
    const std::unique_ptr<redisReply, void (*)(void*)> reply(static_cast<redisReply*>(raw),
                                                             freeReplyObject);
    if (open_.empty()) return broken("it answers what nobody asked");
    const Call call = std::move(open_.front());
    open_.pop_front();
    auto numbers = numbers_of(*reply);
    call.then(numbers);
    if (up_ && !numbers && numbers.error().code == ErrorCode::kUnavailable) {
      return fail(numbers.error());
    }
    answered_ = answered_ || up_;
  }
  if (context_->reader->len > kReplyBytesMax) return broken("its answer has no end");
  return {};
}

}  // namespace conclave::quota
