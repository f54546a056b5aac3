#include "bench_requests.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <vector>

namespace conclave::cli {
namespace {

namespace json = boost::json;

json::object body_of(const RequestShape& shape, std::uint64_t index) {
  return json::parse(request_body(shape, index)).as_object();
}

std::vector<std::int64_t> ids_of(const RequestShape& shape, std::uint64_t index) {
  const json::object body = body_of(shape, index);
  std::vector<std::int64_t> ids;
  for (const json::value& id : body.at("prompt").as_array()) {
    ids.push_back(id.to_number<std::int64_t>());
  }
  return ids;
}

// How many tokens two prompts share from their beginning.
std::size_t common(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  std::size_t count = 0;
  while (count < a.size() && count < b.size() && a[count] == b[count]) ++count;
  return count;
}

TEST(RequestBodyTest, SaysWhatIsAsked) {
  RequestShape shape{.prompt_tokens = 5, .new_tokens = 9, .vocab = 50, .model = "a \"model\""};
  json::object body = body_of(shape, 3);
  EXPECT_EQ(body.at("model"), "a \"model\"");
  EXPECT_EQ(body.at("prompt").as_array().size(), 5u);
  EXPECT_EQ(body.at("max_tokens"), 9);
  EXPECT_EQ(body.at("seed"), 3);
  EXPECT_EQ(body.at("temperature"), 1.0);
  EXPECT_EQ(body.at("ignore_eos"), true);
  EXPECT_EQ(body.at("stream"), true);
  EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(endpoint(shape.input), "/v1/completions");

  shape.stream = shape.ignore_eos = false;
  body = body_of(shape, 3);
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_FALSE(body.contains("stream"));
  EXPECT_FALSE(body.contains("stream_options"));
}

TEST(RequestBodyTest, IdsAreInTheVocabularyAndUseAllOfIt) {
  const RequestShape shape{.prompt_tokens = 2000, .vocab = 10, .model = "m", .seed = 1};
  std::vector<int> seen(10, 0);
  for (const std::int64_t id : ids_of(shape, 0)) ++seen.at(static_cast<std::size_t>(id));
  for (const int count : seen) EXPECT_GT(count, 100);
}

TEST(RequestBodyTest, PromptsAreAFunctionOfSeedAndNumber) {
  RequestShape shape{.prompt_tokens = 64, .vocab = 1000, .model = "m", .seed = 1};
  const auto first = ids_of(shape, 0);
  EXPECT_EQ(ids_of(shape, 0), first);
  EXPECT_LT(common(ids_of(shape, 1), first), 4u);
  shape.seed = 2;
  EXPECT_LT(common(ids_of(shape, 0), first), 4u);
}

TEST(RequestBodyTest, TheSharedPartIsTheBeginning) {
  RequestShape shape{.prompt_tokens = 64, .prefix_share = 0.75, .vocab = 1000, .model = "m"};
  const std::size_t shared = common(ids_of(shape, 0), ids_of(shape, 1));
  EXPECT_GE(shared, 48u);
  EXPECT_LT(shared, 52u);
  shape.prefix_share = 1.0;
  EXPECT_EQ(ids_of(shape, 0), ids_of(shape, 7));
}

TEST(RequestBodyTest, TextAndChatsAreWords) {
  RequestShape shape{.input = PromptInput::kText, .prompt_tokens = 6, .model = "m"};
  const json::value text = body_of(shape, 0).at("prompt");
  EXPECT_EQ(std::count(text.as_string().begin(), text.as_string().end(), ' '), 5);
  shape.input = PromptInput::kChat;
  const json::object chat = body_of(shape, 0);
  EXPECT_EQ(chat.at("messages").at(0).at("role"), "user");
  EXPECT_EQ(chat.at("messages").at(0).at("content"), text);
  EXPECT_EQ(endpoint(shape.input), "/v1/chat/completions");
}

}  // namespace
}  // namespace conclave::cli
