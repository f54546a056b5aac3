// Attention of tiles against the formula in double precision, and the same bits in any tile, on any
// instruction set, whatever stands where a query does not look.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {
namespace {

// What a block that nobody owns any more may hold.
constexpr float kGarbage = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  KvLayout layout;
  std::uint32_t tokens = 300;  // more than two steps of 128
  std::uint32_t window = 0;
  bool sinks = false;
};

// A cache of one KV head and queries at its positions, stored through the scalar kernels.
class Case {
 public:
  Case(const Shape& shape, std::size_t heads, unsigned seed = 7) : shape_(shape), heads_(heads) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, std::size_t n) {
      values.resize(n);
      for (float& value : values) value = normal(random);
    };
    const KvLayout& layout = shape.layout;
    fill(keys_, std::size_t{shape.tokens} * layout.key_dim);
    fill(values_, std::size_t{shape.tokens} * layout.value_dim);
    fill(q_, shape.tokens * heads * layout.key_dim);
    fill(sinks_, heads);
    const std::size_t blocks = (shape.tokens + 15) / 16 + 1;
    for (std::size_t b = 0; b < blocks; ++b) table_.push_back(static_cast<std::uint32_t>(b));
    std::shuffle(table_.begin(), table_.end(), random);
    memory_.resize(blocks * layout.bytes());
    const KernelTable& scalar = kernel_table(Isa::kScalar);
    const std::vector<float> garbage(std::size_t{16} * std::max(layout.key_dim, layout.value_dim),
                                     kGarbage);
    for (std::size_t b = 0; b < blocks; ++b) {
      scalar.store_kv({layout, own_block(b), 0, 16, garbage.data(), layout.key_dim, garbage.data(),
                       layout.value_dim});
    }
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      scalar.store_kv({layout, own_block(t / 16), t % 16, 1, &keys_[t * layout.key_dim],
                       layout.key_dim, &values_[t * layout.value_dim], layout.value_dim});
    }
  }

  // The queries of rows [first, last), and where their outputs go.
  [[nodiscard]] std::vector<TileQuery> queries(std::uint32_t first, std::uint32_t last,
                                               float* out) const {
    std::vector<TileQuery> all;
    for (std::uint32_t row = first; row < last; ++row) {
      for (std::size_t h = 0; h < heads_; ++h, out += shape_.layout.value_dim) {
        all.push_back({&q_[(row * heads_ + h) * shape_.layout.key_dim], out, begin_of(row), row + 1,
                       shape_.sinks ? &sinks_[h] : nullptr});
      }
    }
    return all;
  }

  // Outputs of the heads of rows [first, last), in tiles of `rows` rows.
  std::vector<float> attend(const KernelTable& kernels, std::uint32_t first, std::uint32_t last,
                            std::uint32_t rows) const {
    const KvLayout& layout = shape_.layout;
    std::vector<float> out((last - first) * heads_ * layout.value_dim);
    base::AlignedVector<float> room(attention_room(layout));
    for (std::uint32_t row = first; row < last; row += rows) {
      const auto tile =
          queries(row, std::min(row + rows, last), &out[(row - first) * heads_ * layout.value_dim]);
      kernels.attend({layout, memory_.data(), layout.bytes(), table_.data(), 1, tile.data(),
                      tile.size(), kScale, room.data()});
    }
    return out;
  }

  // Where 16 tokens lie, and how many such blocks there are.
  [[nodiscard]] const std::byte* block(std::size_t index) const {
    return memory_.data() + table_[index] * shape_.layout.bytes();
  }
  [[nodiscard]] std::size_t blocks() const { return table_.size(); }

  static constexpr float kScale = 0.21f;

  // The largest difference to the formula on the numbers before rounding.
  [[nodiscard]] double error(const std::vector<float>& out, std::uint32_t first) const {
    const KvLayout& layout = shape_.layout;
    double worst = 0.0;
    for (std::size_t i = 0; i < out.size() / layout.value_dim; ++i) {
      const auto row = static_cast<std::uint32_t>(first + i / heads_);
      const std::size_t head = i % heads_;
      std::vector<double> p;
      double sum = shape_.sinks ? std::exp(double{sinks_[head]}) : 0.0;
      for (std::uint32_t t = begin_of(row); t <= row; ++t) {
        double score = 0.0;
        for (std::size_t d = 0; d < layout.key_dim; ++d) {
          score += double{q_[(row * heads_ + head) * layout.key_dim + d]} *
                   keys_[t * layout.key_dim + d];
        }
        p.push_back(std::exp(double{kScale} * score));
        sum += p.back();
      }
      for (std::size_t d = 0; d < layout.value_dim; ++d) {
        double expected = 0.0;
        for (std::size_t t = 0; t < p.size(); ++t) {
          expected += p[t] / sum * value(begin_of(row) + t, d);
        }
        worst = std::max(worst, std::abs(out[i * layout.value_dim + d] - expected));
      }
    }
    return worst;
  }

 private:
  [[nodiscard]] std::uint32_t begin_of(std::uint32_t row) const {
    return shape_.window != 0 && row + 1 > shape_.window ? row + 1 - shape_.window : 0;
  }
  [[nodiscard]] std::byte* own_block(std::size_t index) {
    return memory_.data() + table_[index] * shape_.layout.bytes();
  }
  [[nodiscard]] double value(std::size_t t, std::size_t d) const {
    const KvLayout& layout = shape_.layout;
    return layout.values_in_keys ? keys_[t * layout.key_dim + d]
                                 : values_[t * layout.value_dim + d];
  }

  Shape shape_;
  std::size_t heads_;
  std::vector<float> keys_, values_, q_, sinks_;
  std::vector<std::uint32_t> table_;
  base::AlignedVector<std::byte> memory_;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8_0}) {
    all.push_back({{type, 64, 64, false}});
    all.push_back({{type, 40, 24, false}});
    all.push_back({{type, 48, 32, true}});
    all.push_back({{type, 32, 80, false}, 300, 100, false});
    all.push_back({{type, 64, 64, false}, 300, 17, true});
    all.push_back({{type, 64, 64, false}, 40, 0, true});
  }
  return all;
}

class AttentionTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << "this machine has no " << to_string(GetParam());
  }
  [[nodiscard]] const KernelTable& kernels() const { return kernel_table(GetParam()); }
};

TEST_P(AttentionTest, EqualsTheFormulaUpToTheRoundingOfTheCache) {
  for (const Shape& shape : shapes()) {
    const Case one(shape, 3);
    const std::uint32_t first = shape.tokens > 40 ? shape.tokens - 40 : 0;
    const auto out = one.attend(kernels(), first, shape.tokens, 4);
    const double bound = shape.layout.type == KvType::kF32   ? 2e-6
                         : shape.layout.type == KvType::kF16 ? 3e-3
                                                             : 6e-2;
    EXPECT_LT(one.error(out, first), bound) << shape.layout.key_dim << ", " << shape.tokens;
  }
}

TEST_P(AttentionTest, NoBitDependsOnTheTileOrTheInstructions) {
  for (const Shape& shape : shapes()) {
    for (const std::size_t heads : {1u, 3u, 8u}) {
      const Case one(shape, heads);
      const std::uint32_t first = shape.tokens > 60 ? 110 : 0;
      const std::uint32_t last = std::min(first + 40, shape.tokens);
      const auto alone = one.attend(kernel_table(Isa::kScalar), first, last, 1);
      for (const std::uint32_t rows : {1u, 2u, 4u, 10u, 32u}) {
        if (rows * heads > kTileQueries) continue;
        const auto tiles = one.attend(kernels(), first, last, rows);
        ASSERT_EQ(std::memcmp(tiles.data(), alone.data(), alone.size() * sizeof(float)), 0)
            << heads << " heads, " << rows << " rows, window " << shape.window;
      }
    }
  }
}

TEST_P(AttentionTest, NoBitDependsOnTheHeadsOfATile) {
  struct Tile {
    unsigned kv_heads, heads;
    std::uint32_t rows;
  };
  constexpr Tile kTiles[] = {{5, 1, 1}, {32, 1, 1}, {5, 3, 1}, {2, 16, 1}, {5, 1, 6}, {3, 5, 2}};
  for (const Shape& shape : shapes()) {
    if (shape.layout.values_in_keys) continue;  // one KV head
    for (const auto& [kv_heads, heads, rows] : kTiles) {
      std::vector<Case> cases;
      for (unsigned kv = 0; kv < kv_heads; ++kv) cases.emplace_back(shape, heads, kv);
      const std::size_t bytes = shape.layout.bytes();
      base::AlignedVector<std::byte> memory(cases[0].blocks() * kv_heads * bytes);
      std::vector<std::uint32_t> table;
      for (std::uint32_t b = 0; b < cases[0].blocks(); ++b) {
        table.push_back(b);
        for (std::size_t kv = 0; kv < kv_heads; ++kv) {
          std::memcpy(&memory[(b * kv_heads + kv) * bytes], cases[kv].block(b), bytes);
        }
      }
      for (const std::uint32_t row : {20u, shape.tokens - rows}) {
        const std::size_t values = rows * heads * shape.layout.value_dim;
        std::vector<float> out(kv_heads * values);
        std::vector<TileQuery> tile;
        for (std::size_t kv = 0; kv < kv_heads; ++kv) {
          const auto own = cases[kv].queries(row, row + rows, &out[kv * values]);
          tile.insert(tile.end(), own.begin(), own.end());
        }
        base::AlignedVector<float> room(attention_room(shape.layout));
        kernels().attend({shape.layout, memory.data(), kv_heads * bytes, table.data(), kv_heads,
                          tile.data(), tile.size(), Case::kScale, room.data()});
        for (std::size_t kv = 0; kv < kv_heads; ++kv) {
          const auto alone = cases[kv].attend(kernel_table(Isa::kScalar), row, row + rows, 1);
          ASSERT_EQ(std::memcmp(&out[kv * values], alone.data(), values * sizeof(float)), 0)
              << kv_heads << " KV heads with " << heads << " each, " << kv << " of them, " << rows
              << " rows from " << row;
        }
      }
    }
  }
}

TEST_P(AttentionTest, AScoreThatIsNoNumberShows) {
  const KvLayout layout{KvType::kF32, 16, 16, false};
  std::vector<std::byte> block(layout.bytes());
  const std::vector<float> ones(16, 1.0f);
  const std::vector<float> bad(16, kGarbage);
  kernels().store_kv({layout, block.data(), 0, 1, ones.data(), 16, ones.data(), 16});
  kernels().store_kv({layout, block.data(), 1, 1, bad.data(), 16, ones.data(), 16});
  std::vector<float> out(32);
  const TileQuery queries[] = {{ones.data(), out.data(), 0, 1, nullptr},
                               {ones.data(), out.data() + 16, 0, 2, nullptr}};
  const std::uint32_t table[] = {0};
  std::vector<float> room(attention_room(layout));
  kernels().attend({layout, block.data(), layout.bytes(), table, 1, queries, 2, 1.0f, room.data()});
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_TRUE(std::isnan(out[16]));
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest, testing::ValuesIn(kIsas), [](const auto& instance) {
  return std::string(to_string(instance.param));
});

}  // namespace
}  // namespace conclave::kernels
