#include "conclave/chat/chat_template.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace conclave::chat {
namespace {

using base::ErrorCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const SpecialTokens kTokens{"<s>", "</s>", "", ""};

gguf::Metadata metadata_with(std::vector<std::pair<std::string, std::string>> entries) {
  gguf::Metadata metadata;
  for (auto& [key, text] : entries) metadata.set(std::move(key), gguf::Value{std::move(text)});
  return metadata;
}

ChatRequest request_with(std::string_view messages) {
  ChatRequest request;
  request.messages = boost::json::parse({messages.data(), messages.size()}).as_array();
  return request;
}

std::string render(std::string_view source, const ChatRequest& request) {
  const auto chat = ChatTemplate::from_source(source, kTokens);
  if (!chat) return chat.error().to_string();
  const auto prompt = chat->render(request);
  return prompt ? *prompt : prompt.error().to_string();
}

TEST(ChatTemplateTest, RendersMessagesWithTokensAndGenerationPrompt) {
  const auto chat = ChatTemplate::from_metadata(
      metadata_with(
          {{"tokenizer.chat_template",
            "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
            "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[bot]{% endif %}"}}),
      kTokens);
  ChatRequest request = request_with(R"([{"role":"user","content":"hi"}])");

  EXPECT_EQ(chat->render(request).value(), "<s>[user]hi</s>[bot]");
  request.add_generation_prompt = false;
  EXPECT_EQ(chat->render(request).value(), "<s>[user]hi</s>");
}

TEST(ChatTemplateTest, SaysThatAFileHasNoTemplate) {
  const auto chat = ChatTemplate::from_metadata(gguf::Metadata(), kTokens);
  ASSERT_FALSE(chat.has_value());
  EXPECT_EQ(chat.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(chat.error().message, HasSubstr("no chat template"));
}

TEST(ChatTemplateTest, BrokenTemplatesAreCorruptData) {
  EXPECT_EQ(render("{% if %}", {}),
            "corrupt_data: chat template 'default': 1:7: expected an expression, found '%}'");
}

TEST(ChatTemplateTest, ToolsChooseTheToolTemplate) {
  gguf::Metadata metadata = metadata_with({{"tokenizer.chat_template", "plain"},
                                           {"tokenizer.chat_template.tool_use", "tools"},
                                           {"tokenizer.chat_template.rag", "rag"}});
  metadata.set("tokenizer.chat_templates",
               gguf::Value{gguf::Array{std::vector<std::string>{"tool_use", "rag", "lost"}}});
  const auto chat = ChatTemplate::from_metadata(metadata, kTokens);
  ChatRequest request;

  EXPECT_THAT(chat->names(), ElementsAre("default", "rag", "tool_use"));
  EXPECT_EQ(chat->render(request).value(), "plain");
  request.template_name = "rag";
  EXPECT_EQ(chat->render(request).value(), "rag");
  request.template_name = "lost";
  EXPECT_EQ(chat->render(request).error().code, ErrorCode::kNotFound);
  request.template_name = "";
  request.tools = {boost::json::object{{"type", "function"}}};
  EXPECT_EQ(chat->render(request).value(), "tools");
}

TEST(ChatTemplateTest, AbsentToolsAreNone) {
  EXPECT_EQ(render("{{ tools is none }} {{ documents is none }}", {}), "true true");
}

TEST(ChatTemplateTest, KwargsReachTheTemplateButReplaceNothing) {
  ChatRequest request;
  request.template_kwargs = {{"enable_thinking", false}, {"reasoning_effort", "low"}};
  EXPECT_EQ(render("{{ enable_thinking }} {{ reasoning_effort }}", request), "false low");
  for (const char* taken : {"messages", "bos_token", "range"}) {
    request.template_kwargs = {{taken, 1}};
    EXPECT_THAT(render("x", request), HasSubstr("invalid_argument: the template variable"))
        << taken;
  }
}

TEST(ChatTemplateTest, RefusalsOfTheTemplateAreForTheClient) {
  EXPECT_EQ(render("{{ raise_exception('roles must alternate') }}", {}),
            "invalid_argument: roles must alternate");
  EXPECT_EQ(render("{{ 'a' + none }}", {}),
            "failed_precondition: 1:8: cannot apply '+' to string and none");
}

TEST(ChatTemplateTest, ContentTakesTheShapeThatTheTemplateKnows) {
  const ChatRequest text = request_with(R"([{"role":"user","content":"a"}])");
  const ChatRequest parts = request_with(
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])");

  const std::string_view only_text = "{{ messages[0].content + '!' }}";
  EXPECT_EQ(render(only_text, text), "a!");
  EXPECT_EQ(render(only_text, parts), "a\nb!");

  const std::string_view only_parts =
      "{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}";
  EXPECT_EQ(render(only_parts, text), "<a>");
  EXPECT_EQ(render(only_parts, parts), "<a><b>");

  const std::string_view either =
      "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}"
      "{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}{% endif %}";
  EXPECT_EQ(render(either, text), "a");
  EXPECT_EQ(render(either, parts), "<a><b>");
}

TEST(ChatTemplateTest, NullContentFollowsTheTemplate) {
  const ChatRequest request = request_with(
      R"([{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f"}}]}])");
  EXPECT_EQ(render("{% for m in messages %}{{ m.content is none }}{% endfor %}", request), "true");
  EXPECT_EQ(
      render("{% for m in messages %}<{{ m.content.split('x') | length }}>{% endfor %}", request),
      "<1>");
}

}  // namespace
}  // namespace conclave::chat
