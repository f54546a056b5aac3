// What a KV block holds after keys and values were written: every number where the layout says,
// rounded as its type rounds, and the same bytes on every instruction set.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "conclave/gguf/block_type.hpp"
#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {
namespace {

class KvStoreTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << "this machine has no " << to_string(GetParam());
  }
  [[nodiscard]] const KernelTable& kernels() const { return kernel_table(GetParam()); }
};

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8_0};

// A block filled through `store`, in rows from 0 to 15, cut at `cut`.
std::vector<std::byte> filled(const KernelTable& kernels, const KvLayout& layout,
                              const std::vector<float>& keys, const std::vector<float>& values,
                              std::uint32_t cut) {
  std::vector<std::byte> block(layout.bytes());
  const auto store = [&](std::uint32_t from, std::uint32_t to) {
    kernels.store_kv({layout, block.data(), from, to - from, keys.data() + from * layout.key_dim,
                      layout.key_dim, values.data() + from * layout.value_dim, layout.value_dim});
  };
  if (cut > 0) store(0, cut);
  store(cut, kKvBlockTokens);
  return block;
}

float half(const std::byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return gguf::f16_to_f32(bits);
}

float single(const std::byte* at) {
  float value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

TEST_P(KvStoreTest, NumbersStandWhereTheLayoutSays) {
  for (const std::uint32_t dim : {16u, 24u, 64u}) {
    const auto keys = random_values(16 * dim, 1);
    const auto values = random_values(16 * dim, 2);
    const KvLayout wide{KvType::kF32, dim, dim, false};
    const KvLayout narrow{KvType::kF16, dim, dim, false};
    const KvLayout bytes{KvType::kQ8_0, dim, dim, false};
    const auto f32 = filled(kernels(), wide, keys, values, 5);
    const auto f16 = filled(kernels(), narrow, keys, values, 0);
    const auto q8 = filled(kernels(), bytes, keys, values, 5);
    for (std::size_t t = 0; t < 16; ++t) {
      for (std::size_t d = 0; d < dim; ++d) {
        const float key = keys[t * dim + d];
        const float value = values[t * dim + d];
        const std::size_t key_at = d * 16 + t;
        const std::size_t value_at = d / 16 * 256 + t * 16 + d % 16;
        ASSERT_EQ(single(&f32[key_at * 4]), key);
        ASSERT_EQ(single(&f32[wide.key_bytes() + value_at * 4]), value);
        ASSERT_EQ(half(&f16[key_at * 2]), gguf::f16_to_f32(gguf::f32_to_f16(key)));
        ASSERT_EQ(half(&f16[narrow.key_bytes() + value_at * 2]),
                  gguf::f16_to_f32(gguf::f32_to_f16(value)));
        const std::byte* key_group = &q8[d / 32 * 576];
        const std::byte* value_group = &q8[bytes.key_bytes() + d / 32 * 576];
        const auto quant = [](std::byte b) { return static_cast<float>(std::bit_cast<char>(b)); };
        const float key_step = single(key_group + t * 4);
        const float value_step = single(value_group + t * 4);
        ASSERT_NEAR(quant(key_group[64 + d % 32 * 16 + t]) * key_step, key, 0.5001f * key_step);
        ASSERT_NEAR(quant(value_group[64 + d % 32 / 16 * 256 + t * 16 + d % 16]) * value_step,
                    value, 0.5001f * value_step);
        ASSERT_LT(key_step, 0.05f);
      }
    }
  }
}

TEST_P(KvStoreTest, BytesAreTheSameInAnyPiecesAndOnAnyInstructions) {
  for (const KvType type : kTypes) {
    for (const std::uint32_t dim : {16u, 40u, 64u}) {
      for (const bool shared : {false, true}) {
        const KvLayout layout{type, dim + 8, dim, shared};
        const auto keys = random_values(16 * (dim + 8), 3);
        const auto values = random_values(16 * dim, 4);
        const auto expected = filled(kernel_table(Isa::kScalar), layout, keys, values, 0);
        EXPECT_EQ(filled(kernels(), layout, keys, values, 0), expected);
        EXPECT_EQ(filled(kernels(), layout, keys, values, 7), expected);
      }
    }
  }
}

TEST_P(KvStoreTest, HalvesAreRoundedAsInSoftware) {
  constexpr std::uint32_t kDim = 64;
  const KvLayout layout{KvType::kF16, kDim, kDim, false};
  std::vector<std::uint32_t> patterns;  // every half, the middles between two, and their neighbours
  for (std::uint32_t h = 0; h < 0x10000u; ++h) {
    const auto low = std::bit_cast<std::uint32_t>(gguf::f16_to_f32(static_cast<std::uint16_t>(h)));
    for (const std::uint32_t more : {0u, 1u, 0xFFFu, 0x1000u, 0x1001u})
      patterns.push_back(low + more);
  }
  std::mt19937 random(5);
  while (patterns.size() % (16 * kDim) != 0 || patterns.size() < 600000) {
    patterns.push_back(static_cast<std::uint32_t>(random()));
  }
  for (std::size_t at = 0; at < patterns.size(); at += 16 * kDim) {
    std::vector<float> row(16 * kDim);
    std::memcpy(row.data(), &patterns[at], row.size() * sizeof(float));
    ASSERT_EQ(filled(kernels(), layout, row, row, 0),
              filled(kernel_table(Isa::kScalar), layout, row, row, 0))
        << at;
  }
}

TEST_P(KvStoreTest, OnlyTheNamedTokensAreWritten) {
  for (const KvType type : kTypes) {
    const KvLayout layout{type, 32, 32, false};
    const auto rows = random_values(16 * 32, 6);
    auto block = filled(kernels(), layout, rows, rows, 0);
    const auto before = block;
    // Slot 4 of token 4's own numbers: nothing may change.
    kernels().store_kv({layout, block.data(), 4, 1, &rows[4 * 32], 32, &rows[4 * 32], 32});
    EXPECT_EQ(block, before);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, KvStoreTest, testing::ValuesIn(kIsas), [](const auto& instance) {
  return std::string(to_string(instance.param));
});

}  // namespace
}  // namespace conclave::kernels
