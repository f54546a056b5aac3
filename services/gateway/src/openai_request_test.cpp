#include "openai_request.hpp"

#include <gmock/gmock.h>

#include "conclave/wire/limits.hpp"

namespace conclave::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using wire::PromptKind;

constexpr std::string_view kMessages = R"("messages":[{"role":"user","content":"hi"}])";
constexpr std::string_view kPrompt = R"("prompt":"hi")";

/// A body of /v1/chat/completions with these further fields.
std::string chat(std::string_view fields = {}, std::string_view messages = kMessages) {
  std::string body = R"({"model":"m",)" + std::string(messages);
  if (!fields.empty()) body.append(",").append(fields);
  return body + "}";
}

/// A body of /v1/completions with these further fields.
std::string completion(std::string_view fields = {}, std::string_view prompt = kPrompt) {
  return chat(fields, prompt);
}

std::uint64_t seven() { return 7; }

GenerationRequest parsed_chat(std::string_view fields = {}, std::string_view messages = kMessages) {
  auto request = parse_chat(chat(fields, messages), seven);
  if (request) return *request;
  ADD_FAILURE() << fields << ": " << request.error().message;
  GenerationRequest none;
  none.prompts.resize(1);
  return none;
}

GenerationRequest parsed_completion(std::string_view fields = {},
                                    std::string_view prompt = kPrompt) {
  auto request = parse_completion(completion(fields, prompt), seven);
  if (request) return *request;
  ADD_FAILURE() << fields << ": " << request.error().message;
  GenerationRequest none;
  none.prompts.resize(1);
  return none;
}

wire::Generate chat_prompt(std::string_view fields = {}) {
  return parsed_chat(fields).prompts.front();
}

wire::Generate completion_prompt(std::string_view fields = {}) {
  return parsed_completion(fields).prompts.front();
}

// --- what is taken

TEST(OpenAiRequestTest, AChatHasOpenAisDefaults) {
  wire::Generate expected;
  expected.model = "m";
  expected.kind = PromptKind::kChat;
  expected.text = R"({"messages":[{"role":"user","content":"hi"}]})";
  expected.sampling.seed = 7;

  const GenerationRequest request = parsed_chat();

  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.format, AnswerFormat{.chat = true});
  EXPECT_THAT(request.prompts, ElementsAre(expected));
  EXPECT_EQ(expected.sampling.temperature, 1.0f);
  EXPECT_EQ(expected.sampling.top_p, 1.0f);
  EXPECT_FALSE(expected.max_tokens);  // what the context leaves
}

TEST(OpenAiRequestTest, ACompletionHasOpenAisDefaults) {
  wire::Generate expected;
  expected.model = "m";
  expected.kind = PromptKind::kText;
  expected.text = "hi";
  expected.max_tokens = 16;
  expected.sampling.seed = 7;

  const GenerationRequest request = parsed_completion();

  EXPECT_EQ(request.format, AnswerFormat{});
  EXPECT_THAT(request.prompts, ElementsAre(expected));
}

TEST(OpenAiRequestTest, ReadsEverySamplingField) {
  const wire::Sampling sampling =
      completion_prompt(R"("temperature":0.5,"top_p":0.25,"min_p":0.125,"top_k":40,"seed":9,)"
                        R"("presence_penalty":-1.5,"frequency_penalty":2,)"
                        R"("repetition_penalty":1.25,"min_tokens":3,)"
                        R"("logit_bias":{"5":-100,"12":1.5})")
          .sampling;

  wire::Sampling expected;
  expected.temperature = 0.5f;
  expected.top_p = 0.25f;
  expected.min_p = 0.125f;
  expected.top_k = 40;
  expected.seed = 9;
  expected.presence_penalty = -1.5f;
  expected.frequency_penalty = 2.0f;
  expected.repetition_penalty = 1.25f;
  expected.min_tokens = 3;
  expected.logit_bias = {{5, -100.0f}, {12, 1.5f}};
  EXPECT_EQ(sampling, expected);
}

TEST(OpenAiRequestTest, NullIsTheDefault) {
  EXPECT_EQ(parsed_chat(R"("temperature":null,"top_p":null,"n":null,"seed":null,"stop":null,)"
                        R"("max_tokens":null,"logprobs":null,"top_logprobs":null,"stream":null,)"
                        R"("stream_options":null,"logit_bias":null,"tools":null,"user":null,)"
                        R"("tool_choice":null,"response_format":null,"modalities":null,)"
                        R"("functions":null,"audio":null,"guided_json":null)"),
            parsed_chat());
  EXPECT_EQ(parsed_completion(R"("suffix":null,"best_of":null,"echo":null,"logprobs":null,)"
                              R"("max_tokens":null)"),
            parsed_completion());
}

TEST(OpenAiRequestTest, PassesOverFieldsThatNobodyKnows) {
  EXPECT_EQ(parsed_chat(R"("store":true,"metadata":{"a":"b"},"x":[1],"service_tier":"auto",)"
                        R"("parallel_tool_calls":true)"),
            parsed_chat());
}

TEST(OpenAiRequestTest, TakesWholeNumbersInEitherForm) {
  EXPECT_EQ(completion_prompt(R"("max_tokens":5.0)").max_tokens, 5u);
  EXPECT_EQ(completion_prompt(R"("max_tokens":5e0)").max_tokens, 5u);
  EXPECT_EQ(completion_prompt(R"("temperature":1)").sampling.temperature, 1.0f);
  EXPECT_THAT(parsed_completion("", R"("prompt":[1,2.0])").prompts[0].tokens, ElementsAre(1, 2));
}

TEST(OpenAiRequestTest, TakesAllFormsOfOff) {
  EXPECT_EQ(completion_prompt(R"("top_k":-1)").sampling.top_k, 0u);
  EXPECT_EQ(completion_prompt(R"("top_k":0)").sampling.top_k, 0u);
  EXPECT_EQ(completion_prompt(R"("temperature":0)").sampling.temperature, 0.0f);
}

TEST(OpenAiRequestTest, TakesAnySeedOf64Bits) {
  EXPECT_EQ(completion_prompt(R"("seed":18446744073709551615)").sampling.seed, ~std::uint64_t{0});
  EXPECT_EQ(completion_prompt(R"("seed":-1)").sampling.seed, ~std::uint64_t{0});
  EXPECT_EQ(completion_prompt(R"("seed":0)").sampling.seed, 0u);
}

TEST(OpenAiRequestTest, TakesVllmsPriorityAndCacheSalt) {
  const wire::Generate plain = chat_prompt("");
  EXPECT_EQ(plain.priority, 0);
  EXPECT_EQ(plain.cache_salt, "");
  const wire::Generate chat = chat_prompt(R"("priority":-3,"cache_salt":"tenant a")");
  EXPECT_EQ(chat.priority, -3);
  EXPECT_EQ(chat.cache_salt, "tenant a");
  EXPECT_EQ(completion_prompt(R"("priority":10)").priority, 10);
}

TEST(OpenAiRequestTest, PromptsWithoutASeedDrawDifferently) {
  std::uint64_t next = 100;
  const auto random = [&next] { return next++; };
  const auto seeds = [](const GenerationRequest& request) {
    std::vector<std::uint64_t> all;
    for (const auto& prompt : request.prompts) all.push_back(prompt.sampling.seed);
    return all;
  };
  const std::string_view prompts = R"("prompt":["a","b","c"])";

  EXPECT_THAT(seeds(*parse_completion(completion("", prompts), random)),
              ElementsAre(100, 101, 102));
  EXPECT_THAT(seeds(*parse_completion(completion(R"("seed":5)", prompts), random)),
              ElementsAre(5, 5, 5));
}

TEST(OpenAiRequestTest, TheNewerNameOfMaxTokensWins) {
  EXPECT_EQ(chat_prompt(R"("max_tokens":5)").max_tokens, 5u);
  EXPECT_EQ(chat_prompt(R"("max_completion_tokens":6)").max_tokens, 6u);
  EXPECT_EQ(chat_prompt(R"("max_tokens":5,"max_completion_tokens":6)").max_tokens, 6u);
  EXPECT_EQ(completion_prompt(R"("max_completion_tokens":6)").max_tokens, 6u);
}

TEST(OpenAiRequestTest, NoNewTokensMayBeAskedForWithEcho) {
  const GenerationRequest request = parsed_completion(R"("max_tokens":0,"echo":true,"logprobs":0)");
  EXPECT_EQ(request.prompts[0].max_tokens, 0u);
  EXPECT_TRUE(request.prompts[0].echo);
  EXPECT_TRUE(request.prompts[0].logprobs);
  EXPECT_EQ(request.format.top_logprobs, 0u);
}

TEST(OpenAiRequestTest, ReadsStopsInEveryForm) {
  EXPECT_THAT(chat_prompt(R"("stop":"END")").stop, ElementsAre("END"));
  EXPECT_THAT(chat_prompt(R"("stop":["a","\n\n"])").stop, ElementsAre("a", "\n\n"));
  EXPECT_THAT(chat_prompt(R"("stop":[])").stop, ElementsAre());
  const wire::Generate generate =
      chat_prompt(R"("stop_token_ids":[2,0],"include_stop_str_in_output":true,"ignore_eos":true)");
  EXPECT_THAT(generate.stop_tokens, ElementsAre(2, 0));
  EXPECT_TRUE(generate.include_stop);
  EXPECT_TRUE(generate.ignore_eos);
}

TEST(OpenAiRequestTest, ReadsLogprobsInTheShapeOfChats) {
  const GenerationRequest request = parsed_chat(R"("logprobs":true,"top_logprobs":20)");
  EXPECT_TRUE(request.format.logprobs);
  EXPECT_EQ(request.format.top_logprobs, 20u);
  EXPECT_TRUE(request.prompts[0].logprobs);
  EXPECT_EQ(request.prompts[0].top_logprobs, 20u);
  EXPECT_FALSE(parsed_chat(R"("logprobs":false,"top_logprobs":0)").format.logprobs);
}

TEST(OpenAiRequestTest, ReadsLogprobsInTheShapeOfCompletions) {
  const GenerationRequest request = parsed_completion(R"("logprobs":5)");
  EXPECT_TRUE(request.format.logprobs);
  EXPECT_EQ(request.prompts[0].top_logprobs, 5u);
}

TEST(OpenAiRequestTest, ReadsWhatAStreamShallCarry) {
  EXPECT_EQ(parsed_chat(R"("stream":true)").format, (AnswerFormat{.chat = true, .stream = true}));
  const AnswerFormat format =
      parsed_chat(R"("stream":true,"stream_options":{"include_usage":true,)"
                  R"("continuous_usage_stats":true,"include_obfuscation":false})")
          .format;
  EXPECT_TRUE(format.include_usage);
  EXPECT_TRUE(format.continuous_usage);
}

TEST(OpenAiRequestTest, TokenIdsComeBackTheWayOfEcho) {
  const GenerationRequest request = parsed_chat(R"("return_token_ids":true)");
  EXPECT_TRUE(request.format.return_token_ids);
  EXPECT_FALSE(request.format.echo);
  EXPECT_TRUE(request.prompts[0].echo);
}

TEST(OpenAiRequestTest, TakesPromptsInEveryForm) {
  const auto text = parsed_completion("", R"("prompt":"")").prompts;
  ASSERT_EQ(text.size(), 1u);
  EXPECT_EQ(text[0].kind, PromptKind::kText);

  const auto texts = parsed_completion("", R"("prompt":["a","b"])").prompts;
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[1].text, "b");

  const auto tokens = parsed_completion("", R"("prompt":[1,2147483647])").prompts;
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].kind, PromptKind::kTokens);
  EXPECT_THAT(tokens[0].tokens, ElementsAre(1, 2147483647));

  const auto lists = parsed_completion(R"("n":2)", R"("prompt":[[1],[2,3]])").prompts;
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_THAT(lists[1].tokens, ElementsAre(2, 3));
  EXPECT_EQ(lists[1].choices, 2u);
}

TEST(OpenAiRequestTest, AConversationReachesTheTemplateAsItIs) {
  EXPECT_EQ(
      parsed_chat(R"("tools":[{"type":"function","function":{"name":"f","parameters":{"a":1}}}],)"
                  R"("documents":[{"title":"t"}],"chat_template_kwargs":{"enable_thinking":false},)"
                  R"("add_generation_prompt":false,"reasoning_effort":"low")",
                  R"("messages":[{"role":"system","content":"s","name":"x"},)"
                  R"({"role":"user","content":[{"type":"text","text":"a"}]},)"
                  R"({"role":"assistant","tool_calls":[{"id":"1"}]},)"
                  R"({"role":"assistant","content":null},)"
                  R"({"role":"tool","content":"4","tool_call_id":"1"}])")
          .prompts[0]
          .text,
      R"({"messages":[{"role":"system","content":"s","name":"x"},)"
      R"({"role":"user","content":[{"type":"text","text":"a"}]},)"
      R"({"role":"assistant","tool_calls":[{"id":"1"}]},)"
      R"({"role":"assistant","content":null},)"
      R"({"role":"tool","content":"4","tool_call_id":"1"}],)"
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"a":1}}}],)"
      R"("documents":[{"title":"t"}],)"
      R"("chat_template_kwargs":{"enable_thinking":false,"reasoning_effort":"low"},)"
      R"("add_generation_prompt":false})");
}

TEST(OpenAiRequestTest, ToolsThatShallNotBeUsedAreNotShown) {
  constexpr std::string_view kTool = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  EXPECT_THAT(chat_prompt(std::string(kTool) + R"(,"tool_choice":"auto")").text,
              HasSubstr("tools"));
  EXPECT_EQ(chat_prompt(std::string(kTool) + R"(,"tool_choice":"none")").text, chat_prompt().text);
}

TEST(OpenAiRequestTest, TakesTheDefaultsOfWhatItCannotDo) {
  EXPECT_EQ(parsed_chat(R"("response_format":{"type":"text"},"modalities":["text"],"echo":false,)"
                        R"("functions":[],"add_special_tokens":false,"skip_special_tokens":true,)"
                        R"("use_beam_search":false,"continue_final_message":false,"bad_words":[])"),
            parsed_chat());
  EXPECT_EQ(parsed_completion(R"("suffix":"","best_of":1,"add_special_tokens":true)"),
            parsed_completion());
  EXPECT_EQ(parsed_completion(R"("n":3,"best_of":3)"), parsed_completion(R"("n":3)"));
}

TEST(OpenAiRequestTest, TakesAsMuchAsTheLimitsSay) {
  std::string biases;
  for (std::size_t i = 0; i < kLogitBiasMax; ++i) {
    biases += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":1";
  }
  EXPECT_EQ(completion_prompt(R"("logit_bias":{)" + biases + "}").sampling.logit_bias.size(),
            kLogitBiasMax);
  EXPECT_EQ(parsed_completion(R"("n":128)").format.choices, 128u);
  EXPECT_EQ(chat_prompt(R"("stop":")" + std::string(wire::kStopBytesMax, 'x') + '"').stop.size(),
            1u);
}

TEST(OpenAiRequestTest, ReadsRequestsToTokenize) {
  const auto text = parse_tokenize(R"({"model":"m","prompt":"a b","return_token_strs":true})");
  ASSERT_TRUE(text);
  EXPECT_EQ(text->request, (wire::TokenizeRequest{.model = "m",
                                                  .kind = PromptKind::kText,
                                                  .text = "a b",
                                                  .add_special = true,
                                                  .parse_special = true}));
  EXPECT_TRUE(text->token_strings);
  EXPECT_FALSE(parse_tokenize(R"({"prompt":"a","add_special_tokens":false})")->request.add_special);

  const auto conversation = parse_tokenize(
      R"({"messages":[{"role":"user","content":"a"}],"add_generation_prompt":true})");
  ASSERT_TRUE(conversation);
  EXPECT_EQ(conversation->request.kind, PromptKind::kChat);
  EXPECT_FALSE(conversation->request.add_special);
  EXPECT_EQ(conversation->request.text, R"({"messages":[{"role":"user","content":"a"}]})");
}

TEST(OpenAiRequestTest, ReadsRequestsToDetokenize) {
  const auto request = parse_detokenize(R"({"model":"m","tokens":[1,2]})");
  ASSERT_TRUE(request);
  EXPECT_EQ(*request, (wire::DetokenizeRequest{"m", {1, 2}}));
  EXPECT_TRUE(parse_detokenize(R"({"tokens":[]})"));
}

// --- what is refused

struct Refused {
  std::string body;
  std::string param;
  std::string message;  // a part of it
  unsigned status = 400;
};

template <class Parse>
void expect_refused(const Refused& refused, Parse parse) {
  SCOPED_TRACE(refused.body.substr(0, 200));
  const auto request = parse(refused.body);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().status, refused.status);
  EXPECT_EQ(request.error().param, refused.param);
  EXPECT_THAT(request.error().message, HasSubstr(refused.message));
  EXPECT_FALSE(request.error().code.empty());
}

const auto kParseChat = [](std::string_view body) { return parse_chat(body, seven); };
const auto kParseCompletion = [](std::string_view body) { return parse_completion(body, seven); };

std::string nested(std::size_t depth) {
  return chat(R"("x":)" + std::string(depth, '[') + std::string(depth, ']'));
}

TEST(OpenAiRequestTest, RefusesWhatIsNoJsonObject) {
  for (const Refused& refused : std::vector<Refused>{
           {"", "", "not valid JSON"},
           {"   ", "", "not valid JSON"},
           {"{", "", "not valid JSON"},
           {R"({"model":"m",})", "", "at byte 13"},
           {R"({"model":"m"} x)", "", "not valid JSON"},
           {R"({"model":"m"}{})", "", "not valid JSON"},
           {R"({'model':'m'})", "", "not valid JSON"},
           {"{\"model\":\"\xff\"}", "", "not valid JSON"},
           {R"({"model":"\ud800"})", "", "not valid JSON"},
           {R"({"a":NaN})", "", "not valid JSON"},
           {R"({"a":01})", "", "not valid JSON"},
           {nested(64), "", "not valid JSON"},
           {nested(100'000), "", "not valid JSON"},
           {"[]", "", "must be a JSON object"},
           {"null", "", "must be a JSON object"},
           {"5", "", "must be a JSON object"},
           {R"("text")", "", "must be a JSON object"},
       }) {
    expect_refused(refused, kParseChat);
    expect_refused(refused, kParseCompletion);
  }
  EXPECT_TRUE(kParseChat(nested(60)));
}

TEST(OpenAiRequestTest, RefusesBadFieldsThatChatsAndCompletionsShare) {
  for (const Refused& refused : std::vector<Refused>{
           {R"("model":5)", "model", "must be a string"},
           {R"("model":"")", "model", "must provide a model"},
           {R"("model":null)", "model", "must provide a model"},
           {R"("model":")" + std::string(257, 'x') + '"', "model", "does not exist", 404},
           {R"("temperature":"hot")", "temperature", "must be a number"},
           {R"("temperature":-0.1)", "temperature", "must be 0 to 2"},
           {R"("temperature":2.1)", "temperature", "must be 0 to 2"},
           {R"("temperature":1e400)", "temperature", "must be 0 to 2"},
           {R"("temperature":true)", "temperature", "must be a number"},
           {R"("top_p":0)", "top_p", "to 1"},
           {R"("top_p":1.5)", "top_p", "to 1"},
           {R"("top_p":[1])", "top_p", "must be a number"},
           {R"("min_p":-1)", "min_p", "must be 0 to 1"},
           {R"("min_p":2)", "min_p", "must be 0 to 1"},
           {R"("top_k":-2)", "top_k", "must be -1 to"},
           {R"("top_k":1.5)", "top_k", "must be an integer"},
           {R"("top_k":"all")", "top_k", "must be an integer"},
           {R"("presence_penalty":-2.5)", "presence_penalty", "must be -2 to 2"},
           {R"("frequency_penalty":3)", "frequency_penalty", "must be -2 to 2"},
           {R"("repetition_penalty":0)", "repetition_penalty", "to 10"},
           {R"("repetition_penalty":11)", "repetition_penalty", "to 10"},
           {R"("seed":"x")", "seed", "integer of 64 bits"},
           {R"("seed":1.5)", "seed", "integer of 64 bits"},
           {R"("seed":1e30)", "seed", "integer of 64 bits"},
           {R"("n":0)", "n", "must be 1 to 128"},
           {R"("n":129)", "n", "must be 1 to 128"},
           {R"("n":-1)", "n", "must be 1 to 128"},
           {R"("n":"2")", "n", "must be an integer"},
           {R"("n":1.5)", "n", "must be an integer"},
           {R"("n":99999999999999999999)", "n", "must be"},
           {R"("max_tokens":0)", "max_tokens", "must be 1 to"},
           {R"("max_tokens":-5)", "max_tokens", "must be 1 to"},
           {R"("max_tokens":"16")", "max_tokens", "must be an integer"},
           {R"("max_tokens":4294967296)", "max_tokens", "must be 1 to"},
           {R"("max_completion_tokens":0)", "max_completion_tokens", "must be 1 to"},
           {R"("min_tokens":-1)", "min_tokens", "must be 0 to"},
           {R"("min_tokens":9,"max_tokens":8)", "min_tokens", "above max_tokens"},
           {R"("stop":5)", "stop", "a string or a list"},
           {R"("stop":"")", "stop", "1 to 1024 bytes"},
           {R"("stop":["a",""])", "stop[1]", "1 to 1024 bytes"},
           {R"("stop":["a",5])", "stop[1]", "a string or a list"},
           {R"("stop":{"a":1})", "stop", "a string or a list"},
           {R"("stop":")" + std::string(1025, 'x') + '"', "stop", "1 to 1024 bytes"},
           {R"("stop_token_ids":5)", "stop_token_ids", "must be a list"},
           {R"("stop_token_ids":["5"])", "stop_token_ids", "token ids"},
           {R"("stop_token_ids":[-1])", "stop_token_ids", "token ids"},
           {R"("ignore_eos":1)", "ignore_eos", "must be a boolean"},
           {R"("logit_bias":[1])", "logit_bias", "must be an object"},
           {R"("logit_bias":{"a":1})", "logit_bias", "token ids"},
           {R"("logit_bias":{"-1":1})", "logit_bias", "token ids"},
           {R"("logit_bias":{"01":1})", "logit_bias", "token ids"},
           {R"("logit_bias":{"2147483648":1})", "logit_bias", "token ids"},
           {R"("logit_bias":{"5":101})", "logit_bias", "-100 to 100"},
           {R"("logit_bias":{"5":"1"})", "logit_bias", "-100 to 100"},
           {R"("stream":"yes")", "stream", "must be a boolean"},
           {R"("stream_options":{"include_usage":true})", "stream_options", "stream is true"},
           {R"("stream":true,"stream_options":5)", "stream_options", "must be an object"},
           {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage",
            "must be a boolean"},
           {R"("return_token_ids":1)", "return_token_ids", "must be a boolean"},
           {R"("user":["a"])", "user", "must be a string"},
           {R"("response_format":{"type":"json_object"})", "response_format", "Constrained"},
           {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format",
            "Constrained"},
           {R"("response_format":"json")", "response_format", "Constrained"},
           {R"("guided_json":{})", "guided_json", "not supported"},
           {R"("guided_regex":"a")", "guided_regex", "not supported"},
           {R"("structured_outputs":{})", "structured_outputs", "not supported"},
           {R"("use_beam_search":true)", "use_beam_search", "not supported"},
           {R"("bad_words":["a"])", "bad_words", "not supported"},
           {R"("allowed_token_ids":[1])", "allowed_token_ids", "not supported"},
           {R"("prompt_logprobs":1)", "prompt_logprobs", "not supported"},
           {R"("priority":11)", "priority", "10"},
           {R"("priority":-2147483648)", "priority", "-10"},
           {R"("priority":"high")", "priority", "integer"},
           {R"("cache_salt":"")", "cache_salt", "1 to 256 bytes"},
           {R"("cache_salt":7)", "cache_salt", "string"},
           {R"("truncate_prompt_tokens":10)", "truncate_prompt_tokens", "not supported"},
           {R"("skip_special_tokens":false)", "skip_special_tokens", "must be true"},
       }) {
    Refused whole = refused;
    whole.body = chat(refused.body);
    expect_refused(whole, kParseChat);
    whole.body = completion(refused.body);
    expect_refused(whole, kParseCompletion);
  }
}

TEST(OpenAiRequestTest, RefusesBadFieldsOfChats) {
  for (const Refused& refused : std::vector<Refused>{
           {R"("logprobs":1)", "logprobs", "must be a boolean"},
           {R"("logprobs":true,"top_logprobs":21)", "top_logprobs", "must be 0 to 20"},
           {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs", "must be 0 to 20"},
           {R"("top_logprobs":2)", "top_logprobs", "needs logprobs"},
           {R"("logprobs":false,"top_logprobs":2)", "top_logprobs", "needs logprobs"},
           {R"("tools":{})", "tools", "must be a list"},
           {R"("tools":[5])", "tools[0]", "of type function"},
           {R"("tools":[{"type":"function"}])", "tools[0].function", "with a name"},
           {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"retrieval"}])",
            "tools[1]", "of type function"},
           {R"("tool_choice":"required")", "tool_choice", "cannot make a model call a tool"},
           {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice",
            "cannot make a model call a tool"},
           {R"("tool_choice":"always")", "tool_choice", "none or auto"},
           {R"("tool_choice":5)", "tool_choice", "none or auto"},
           {R"("functions":[{"name":"f"}])", "functions", "use tools"},
           {R"("function_call":"auto")", "function_call", "use tools"},
           {R"("audio":{"voice":"x"})", "audio", "not supported"},
           {R"("modalities":["text","audio"])", "modalities", "only modality"},
           {R"("modalities":"text")", "modalities", "only modality"},
           {R"("web_search_options":{})", "web_search_options", "not supported"},
           {R"("chat_template":"x")", "chat_template", "of the model"},
           {R"("chat_template_kwargs":[])", "chat_template_kwargs", "must be an object"},
           {R"("documents":"x")", "documents", "must be a list"},
           {R"("reasoning_effort":5)", "reasoning_effort", "must be a string"},
           {R"("continue_final_message":true)", "continue_final_message", "not supported"},
           {R"("add_generation_prompt":"no")", "add_generation_prompt", "must be a boolean"},
           {R"("add_special_tokens":true)", "add_special_tokens", "must be false"},
           {R"("echo":true)", "echo", "not supported"},
       }) {
    Refused whole = refused;
    whole.body = chat(refused.body);
    expect_refused(whole, kParseChat);
  }
}

TEST(OpenAiRequestTest, RefusesConversationsThatAreNone) {
  for (const Refused& refused : std::vector<Refused>{
           {R"("x":1)", "messages", "at least one message"},
           {R"("messages":null)", "messages", "at least one message"},
           {R"("messages":[])", "messages", "at least one message"},
           {R"("messages":"hi")", "messages", "must be a list"},
           {R"("messages":["hi"])", "messages[0]", "must be an object"},
           {R"("messages":[{"content":"hi"}])", "messages[0].role", "string role"},
           {R"("messages":[{"role":5,"content":"hi"}])", "messages[0].role", "string role"},
           {R"("messages":[{"role":"user"}])", "messages[0].content", "must have a content"},
           {R"("messages":[{"role":"user","content":null}])", "messages[0].content",
            "must have a content"},
           {R"("messages":[{"role":"user","content":5}])", "messages[0].content",
            "a string or a list"},
           {R"("messages":[{"role":"user","content":["hi"]}])", "messages[0].content[0]",
            "an object with a type"},
           {R"("messages":[{"role":"user","content":[{"type":"text"}]}])",
            "messages[0].content[0].text", "string text"},
           {R"("messages":[{"role":"user","content":"a"},{"role":"user","content":)"
            R"([{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}])",
            "messages[1].content[1].type", "no images"},
       }) {
    Refused whole = refused;
    whole.body = chat("", refused.body);
    expect_refused(whole, kParseChat);
  }
}

TEST(OpenAiRequestTest, RefusesBadFieldsOfCompletions) {
  for (const Refused& refused : std::vector<Refused>{
           {R"("logprobs":true)", "logprobs", "must be an integer"},
           {R"("logprobs":21)", "logprobs", "must be 0 to 20"},
           {R"("logprobs":-1)", "logprobs", "must be 0 to 20"},
           {R"("best_of":2)", "best_of", "must be n"},
           {R"("n":3,"best_of":2)", "best_of", "must be n"},
           {R"("best_of":0)", "best_of", "must be 1 to 128"},
           {R"("suffix":"end")", "suffix", "not supported"},
           {R"("echo":"yes")", "echo", "must be a boolean"},
           {R"("echo":true,"max_tokens":-1)", "max_tokens", "must be 0 to"},
           {R"("add_special_tokens":false)", "add_special_tokens", "must be true"},
           {R"("prompt_embeds":"x")", "prompt_embeds", "not supported"},
       }) {
    Refused whole = refused;
    whole.body = completion(refused.body);
    expect_refused(whole, kParseCompletion);
  }
}

TEST(OpenAiRequestTest, RefusesPromptsThatAreNone) {
  std::string many = R"("prompt":["a")";
  for (std::size_t i = 0; i < kPromptsMax; ++i) many += R"(,"a")";
  many += "]";
  std::string choices = R"("n":128,"prompt":[[1])";
  for (std::size_t i = 0; i < kAllChoicesMax / 128; ++i) choices += ",[1]";
  choices += "]";
  for (const Refused& refused : std::vector<Refused>{
           {R"("x":1)", "prompt", "is missing"},
           {R"("prompt":null)", "prompt", "is missing"},
           {R"("prompt":5)", "prompt", "must be a string, a list"},
           {R"("prompt":{})", "prompt", "must be a string, a list"},
           {R"("prompt":[])", "prompt", "empty list"},
           {R"("prompt":[true])", "prompt[0]", "must be a string, a list"},
           {R"("prompt":["a",1])", "prompt[1]", "must be a string, a list"},
           {R"("prompt":["a",["b"]])", "prompt[1]", "must be a string, a list"},
           {R"("prompt":[1,"a"])", "prompt", "list of token ids"},
           {R"("prompt":[1,-1])", "prompt", "list of token ids"},
           {R"("prompt":[1.5])", "prompt", "list of token ids"},
           {R"("prompt":[2147483648])", "prompt", "list of token ids"},
           {R"("prompt":[[1],["a"]])", "prompt[1]", "list of token ids"},
           {R"("prompt":[[1],[]])", "prompt[1]", "at least one token"},
           {R"("prompt":[[1],2])", "prompt[1]", "must be a string, a list"},
           {many, "prompt", "At most 512 prompts"},
           {choices, "n", "At most 1024 choices"},
       }) {
    Refused whole = refused;
    whole.body = completion("", refused.body);
    expect_refused(whole, kParseCompletion);
  }
}

TEST(OpenAiRequestTest, RefusesTooManyOfAnything) {
  std::string biases = R"("0":1)";
  std::string stops = R"("a")";
  std::string tokens = "1";
  for (std::size_t i = 1; i <= kLogitBiasMax; ++i) biases += ",\"" + std::to_string(i) + "\":1";
  for (std::size_t i = 0; i < wire::kStopsMax; ++i) {
    stops += R"(,"a")";
    tokens += ",1";
  }
  expect_refused({chat(R"("logit_bias":{)" + biases + "}"), "logit_bias", "at most 300"},
                 kParseChat);
  expect_refused({chat(R"("stop":[)" + stops + "]"), "stop", "At most 32"}, kParseChat);
  expect_refused({chat(R"("stop_token_ids":[)" + tokens + "]"), "stop_token_ids", "At most 32"},
                 kParseChat);
}

TEST(OpenAiRequestTest, RefusesBadRequestsToTokenize) {
  const auto tokenize = [](std::string_view body) { return parse_tokenize(body); };
  expect_refused({R"({"model":"m"})", "prompt", "prompt or messages is missing"}, tokenize);
  expect_refused({R"({"prompt":["a"]})", "prompt", "must be a string"}, tokenize);
  expect_refused({R"({"model":1,"prompt":"a"})", "model", "must be a string"}, tokenize);
  expect_refused({R"({"prompt":"a","add_special_tokens":1})", "add_special_tokens", "boolean"},
                 tokenize);
  expect_refused({R"({"messages":[]})", "messages", "at least one message"}, tokenize);
  expect_refused({R"({"messages":[{"role":"user","content":"a"}],"add_special_tokens":true})",
                  "add_special_tokens", "must be false"},
                 tokenize);
  expect_refused({R"({"messages":[{"role":"user","content":"a"}],"chat_template":"x"})",
                  "chat_template", "of the model"},
                 tokenize);
  const auto detokenize = [](std::string_view body) { return parse_detokenize(body); };
  expect_refused({"{}", "tokens", "is missing"}, detokenize);
  expect_refused({R"({"tokens":"a"})", "tokens", "must be a list"}, detokenize);
  expect_refused({R"({"tokens":[1,"a"]})", "tokens", "list of token ids"}, detokenize);
  expect_refused({"x", "", "not valid JSON"}, detokenize);
}

}  // namespace
}  // namespace conclave::gateway
