// The patterns are those that the models were trained with (their tokenizer.json), in the form that
// llama.cpp gives them where the two differ, because that is what published files are tested with.
// Two changes of ours, neither visible in the result: possessive quantifiers (`++`) where giving
// back could never help, and look-arounds that keep a search linear.
#include "pre_rules.hpp"

#include <algorithm>

namespace conclave::tokenizer {
namespace {

// Building blocks. A class of letters "as llama.cpp reads case": outside of ASCII every letter is
// both upper and lower case.
#define CONCLAVE_UPPER R"([^\P{L}a-z])"
#define CONCLAVE_LOWER R"([^\P{L}A-Z])"
#define CONCLAVE_CONTRACTION R"('(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))"
#define CONCLAVE_WORD R"([^\r\n\p{L}\p{N}]?+\p{L}++)"
#define CONCLAVE_SYMBOLS R"( ?+[^\s\p{L}\p{N}]++[\r\n]*+)"
#define CONCLAVE_SPACES R"(\s*[\r\n]++|\s+(?!\S)|\s++)"
#define CONCLAVE_GPT2 \
  R"('(?:[sdmt]|ll|ve|re)| ?+\p{L}++| ?+\p{N}++| ?+[^\s\p{L}\p{N}]++|\s+(?!\S)|\s++)"

constexpr PreStep kGpt2[] = {{CONCLAVE_GPT2}};

constexpr PreStep kDefault[] = {
    {R"([\p{P}$+<=>^~|]++)"}, {CONCLAVE_GPT2}, {R"(\p{N}++)"}, {R"([0-9][0-9][0-9])"}};

constexpr PreStep kFalcon[] = {{R"([\p{P}$+<=>^~|`]++)"}, {CONCLAVE_GPT2}, {R"([0-9][0-9][0-9])"}};

constexpr PreStep kStarcoder[] = {{R"(\p{N})"}, {CONCLAVE_GPT2}};

constexpr PreStep kLlama3[] = {{CONCLAVE_CONTRACTION "|" CONCLAVE_WORD R"(|\p{N}{1,3}+|)"  //
                                CONCLAVE_SYMBOLS "|" CONCLAVE_SPACES}};

constexpr PreStep kQwen2[] = {{CONCLAVE_CONTRACTION "|" CONCLAVE_WORD R"(|\p{N}|)"  //
                               CONCLAVE_SYMBOLS "|" CONCLAVE_SPACES}};

constexpr PreStep kQwen35[] = {{CONCLAVE_CONTRACTION
                                R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]++|\p{N}|)"
                                R"( ?+[^\s\p{L}\p{M}\p{N}]++[\r\n]*+|)" CONCLAVE_SPACES}};

// The letters of DeepSeek's first rule: the cased scripts (Latin, Greek, Cyrillic, Armenian,
// Georgian, Cherokee ..) as its authors listed them.
#define CONCLAVE_CASED_LETTERS                                                                  \
  R"(A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"       \
  R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A})" \
  R"(\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556})"       \
  R"(\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF})"    \
  R"(\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D})"    \
  R"(\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D})"              \
  R"(\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"             \
  R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4})"    \
  R"(\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124})"      \
  R"(\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F})"              \
  R"(\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4})"              \
  R"(\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"     \
  R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17})"    \
  R"(\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3})"                 \
  R"(\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF})"             \
  R"(\x{1E900}-\x{1E943})"

#define CONCLAVE_CJK R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]++)"

constexpr PreStep kDeepseekLlm[] = {
    {R"([\r\n])"},
    {R"(\s?[)" CONCLAVE_CASED_LETTERS R"(]++)"},
    {R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]++)"},
    // White space at the end of the piece. The look-behind starts a match at the first space of a
    // run only, else a long run in the middle would be scanned from each of its spaces.
    {R"((?<!\s)\s++\z)"},
    {CONCLAVE_CJK},
    {R"(\p{N}++)"}};

constexpr PreStep kDeepseekCoder[] = {
    {R"([\r\n])"}, {R"(\s?\p{L}++)"}, {R"(\s?\p{P}++)"}, {CONCLAVE_CJK}, {R"(\p{N})"}};

#define CONCLAVE_HAN_KANA R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]++)"
#define CONCLAVE_DEEPSEEK3                                                                    \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]++|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]++)" \
  R"(| ?+[\p{P}\p{S}]++[\r\n]*+|)" CONCLAVE_SPACES

constexpr PreStep kDeepseek3[] = {{R"(\p{N}{1,3}+)"}, {CONCLAVE_HAN_KANA}, {CONCLAVE_DEEPSEEK3}};

#define CONCLAVE_CASED_WORDS(tail)                                   \
  R"([^\r\n\p{L}\p{N}]?)" CONCLAVE_UPPER "*" CONCLAVE_LOWER "+" tail \
  R"(|[^\r\n\p{L}\p{N}]?)" CONCLAVE_UPPER "+" CONCLAVE_LOWER "*" tail "|"

constexpr PreStep kTekken[] = {
    {CONCLAVE_CASED_WORDS("") R"(\p{N}| ?+[^\s\p{L}\p{N}]++[\r\n/]*+|)" CONCLAVE_SPACES}};

constexpr PreStep kGpt4o[] = {
    {CONCLAVE_CASED_WORDS("(?:" CONCLAVE_CONTRACTION
                          ")?+") R"(\p{N}{1,3}+| ?+[^\s\p{L}\p{N}]++[\r\n/]*+|)" CONCLAVE_SPACES}};

// Kimi's own pattern (tokenization_kimi.py), which keeps Han characters out of words. Its class
// intersections are written as one negated class each.
#define CONCLAVE_UPPER_NOT_HAN R"([^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])"
#define CONCLAVE_LOWER_NOT_HAN R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])"
constexpr PreStep kKimiK2[] = {
    {R"(\p{Han}++|[^\r\n\p{L}\p{N}]?)" CONCLAVE_UPPER_NOT_HAN "*" CONCLAVE_LOWER_NOT_HAN
     "+(?:" CONCLAVE_CONTRACTION R"()?+|[^\r\n\p{L}\p{N}]?)" CONCLAVE_UPPER_NOT_HAN
     "+" CONCLAVE_LOWER_NOT_HAN "*(?:" CONCLAVE_CONTRACTION R"()?+|\p{N}{1,3}+|)"  //
     CONCLAVE_SYMBOLS "|" CONCLAVE_SPACES}};

constexpr PreStep kBailing[] = {{CONCLAVE_CONTRACTION "|" CONCLAVE_WORD R"(|\p{N}|)"  //
                                 CONCLAVE_SYMBOLS R"(|\s*[\r\n]|\s+(?!\S)|\s++)"}};

constexpr PreStep kSeedCoder[] = {
    {CONCLAVE_CONTRACTION "|" CONCLAVE_WORD R"(|\p{N}| ?+[^\s\p{L}\p{N}\r\n]++|)" CONCLAVE_SPACES}};

constexpr PreStep kExaoneMoe[] = {
    {CONCLAVE_CONTRACTION R"(|[^\r\n\p{L}\p{N}]?+(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++|\p{N}|)"
                          R"( ?+[^\s\p{L}\p{N}]++[\r\n/]?+|\s*[\r\n]|\s+(?!\S)|\s++)"}};

constexpr PreStep kMiniCpm5[] = {{R"(\p{N}{1,3}+)"},
                                 {CONCLAVE_CONTRACTION "|" CONCLAVE_WORD R"(|\p{N}++|)"  //
                                  CONCLAVE_SYMBOLS "|" CONCLAVE_SPACES}};

constexpr PreStep kLaguna[] = {{R"([^\n]++|\n++)"}, kQwen2[0]};

// Everything up to a punctuation mark of one of several scripts.
constexpr PreStep kBloom[] = {
    {R"( ?+[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]++)"}};
constexpr PreStep kViking[] = {kBloom[0], {R"(\p{N})"}};

constexpr PreStep kChameleon[] = {{R"(<sentinel:[0-9]++>)"},   {R"(IMGIMG[A-I]{1,4}Z)"},
                                  {R"([\t\n]|    |  )"},       {R"(\p{N})"},
                                  {R"([\p{P}!-/:-@\[-`{-~])"}, {CONCLAVE_GPT2}};

constexpr PreStep kJais2[] = {
    {CONCLAVE_CONTRACTION
     "|" CONCLAVE_WORD R"(|\p{N}{1,3}+|)" CONCLAVE_SYMBOLS
     R"(|\s*[\r\n]++|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S))"
     R"(|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s)"}};

constexpr bool kIgnoreMerges = true;
constexpr bool kAddBos = true;

constexpr PreRule kRules[] = {
    {"default", kDefault},
    // GPT-2 and its kin.
    {"gpt-2", kGpt2},
    {"phi-2", kGpt2},
    {"gigachat", kGpt2},
    {"a.x-4.0", kGpt2},
    {"mellum", kGpt2},
    {"modern-bert", kGpt2},
    {"mpt", kGpt2},
    {"olmo", kGpt2},
    {"jais", kGpt2},
    {"trillion", kGpt2},
    {"granite-docling", kGpt2},
    {"exaone4", kGpt2},
    // GPT-2 with single digits.
    {"starcoder", kStarcoder},
    {"refact", kStarcoder},  // Granite files say this
    {"command-r", kStarcoder},
    {"smollm", kStarcoder},
    {"codeshell", kStarcoder},
    {"exaone", kStarcoder},
    {"minerva-7b", kStarcoder},
    {"mellum2", kStarcoder},
    // Llama 3: digits in threes.
    {"llama3", kLlama3, kIgnoreMerges, kAddBos},
    {"llama-v3", kLlama3, kIgnoreMerges, kAddBos},
    {"llama-bpe", kLlama3, kIgnoreMerges, kAddBos},
    {"falcon3", kLlama3, kIgnoreMerges, kAddBos},
    {"falcon-h1", kLlama3, kIgnoreMerges, kAddBos},
    {"pixtral", kLlama3, kIgnoreMerges, kAddBos},
    {"midm-2.0", kLlama3, kIgnoreMerges, kAddBos},
    {"lfm2", kLlama3, kIgnoreMerges, kAddBos},
    {"dbrx", kLlama3},
    {"smaug-bpe", kLlama3},
    {"glm4", kLlama3},
    {"chatglm-bpe", kLlama3},
    {"minicpm5", kMiniCpm5, kIgnoreMerges},
    {"jais-2", kJais2},
    // Qwen: single digits.
    {"qwen2", kQwen2},
    {"deepseek-r1-qwen", kQwen2},
    {"kormo", kQwen2},
    {"f2llmv2", kQwen2},
    {"megrez", kQwen2},
    {"stablelm2", kQwen2},
    {"hunyuan", kQwen2},
    {"solar-open", kQwen2},
    {"grok-2", kQwen2},
    {"qwen35", kQwen35},
    {"laguna", kLaguna},
    {"bailingmoe", kBailing},
    {"bailingmoe2", kBailing},
    {"llada-moe", kBailing},
    {"seed-coder", kSeedCoder},
    {"exaone-moe", kExaoneMoe},
    // DeepSeek.
    {"deepseek-llm", kDeepseekLlm},
    {"deepseek-coder", kDeepseekCoder},
    {"deepseek-v3", kDeepseek3},
    {"hunyuan-dense", kDeepseek3},
    {"joyai-llm", kDeepseek3},
    // OpenAI o200k and what took after it: words end where the case changes.
    {"gpt-4o", kGpt4o},  // gpt-oss files say this
    {"llama4", kGpt4o},
    {"kanana2", kGpt4o},
    {"minimax-m2", kGpt4o},
    {"tekken", kTekken, kIgnoreMerges, kAddBos},
    {"kimi-k2", kKimiK2},
    // Others.
    {"falcon", kFalcon},
    {"bloom", kBloom},
    {"poro-chat", kBloom},
    {"gpt3-finnish", kBloom},
    {"viking", kViking},
    {"chameleon", kChameleon, false, kAddBos},
};

}  // namespace

std::span<const PreRule> pre_rules() { return kRules; }

const PreRule* find_pre_rule(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kRules), std::end(kRules),
                                         [&](const PreRule& rule) { return rule.name == name; });
  return found == std::end(kRules) ? nullptr : found;
}

}  // namespace conclave::tokenizer
