#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/report/classification_report.h"

namespace zerostep {
namespace {

// Worked by hand: labels 0, 1, 2 with
//            predicted
//              0  1  2
//   label 0    5  1  0
//         1    2  3  1
//         2    0  0  4
ConfusionCounts hand_worked() {
  ConfusionCounts counts(3);
  counts.add(0, 0, 5);
  counts.add(0, 1);
  counts.add(1, 0, 2);
  counts.add(1, 1, 3);
  counts.add(1, 2);
  counts.add(2, 2, 4);
  counts.loss_sum = 8;
  counts.loss_count = 16;
  return counts;
}

TEST(ClassificationReport, ScoresAreThoseWorkedByHand) {
  const ClassificationScores scores = scores_of(hand_worked());
  EXPECT_EQ(scores.num_samples, 16);
  EXPECT_DOUBLE_EQ(scores.loss, 0.5);
  EXPECT_DOUBLE_EQ(scores.accuracy, 12.0 / 16);
  ASSERT_EQ(scores.classes.size(), 3U);
  EXPECT_DOUBLE_EQ(scores.classes[0].precision, 5.0 / 7);
  EXPECT_DOUBLE_EQ(scores.classes[0].recall, 5.0 / 6);
  EXPECT_DOUBLE_EQ(scores.classes[0].f1, 10.0 / 13);
  EXPECT_DOUBLE_EQ(scores.classes[1].precision, 3.0 / 4);
  EXPECT_DOUBLE_EQ(scores.classes[1].recall, 3.0 / 6);
  EXPECT_DOUBLE_EQ(scores.classes[1].f1, 6.0 / 10);
  EXPECT_DOUBLE_EQ(scores.classes[2].precision, 4.0 / 5);
  EXPECT_DOUBLE_EQ(scores.classes[2].recall, 1);
  EXPECT_DOUBLE_EQ(scores.classes[2].f1, 8.0 / 9);
  EXPECT_EQ(scores.classes[1].support, 6);
  EXPECT_EQ(scores.classes[0].predicted, 7);
  EXPECT_DOUBLE_EQ(scores.macro_precision, (5.0 / 7 + 3.0 / 4 + 4.0 / 5) / 3);
  EXPECT_DOUBLE_EQ(scores.macro_recall, (5.0 / 6 + 1.0 / 2 + 1) / 3);
  EXPECT_DOUBLE_EQ(scores.macro_f1, (10.0 / 13 + 6.0 / 10 + 8.0 / 9) / 3);
  for (const ClassScores& s : scores.classes) EXPECT_NEAR(s.f1, 2 * s.precision * s.recall / (s.precision + s.recall), 1e-15);
}

TEST(ClassificationReport, ClassesThatNeverOccurScoreZeroAndLeaveTheMeansAlone) {
  ConfusionCounts counts(4);
  counts.add(0, 0, 3);
  counts.add(2, 0);  // class 2 is never predicted, 1 and 3 never occur
  const ClassificationScores scores = scores_of(counts);
  EXPECT_DOUBLE_EQ(scores.accuracy, 0.75);
  EXPECT_EQ(scores.classes[1].f1, 0);
  EXPECT_EQ(scores.classes[2].precision, 0);
  EXPECT_EQ(scores.classes[2].recall, 0);
  EXPECT_DOUBLE_EQ(scores.macro_f1, (6.0 / 7 + 0) / 2);
  const ClassificationScores none = scores_of(ConfusionCounts(2));
  EXPECT_EQ(none.accuracy, 0);
  EXPECT_EQ(none.loss, 0);
  EXPECT_EQ(none.macro_f1, 0);
}

TEST(ClassificationReport, RanksAddUp) {
  ConfusionCounts whole = hand_worked(), sum(3);
  ConfusionCounts first(3), second(3);
  first.add(0, 0, 5);
  first.add(2, 2, 4);
  first.loss_sum = 3;
  first.loss_count = 9;
  second.add(0, 1);
  second.add(1, 0, 2);
  second.add(1, 1, 3);
  second.add(1, 2);
  second.loss_sum = 5;
  second.loss_count = 7;
  sum += first;
  sum += second;
  EXPECT_EQ(sum.values(), whole.values());
  EXPECT_EQ(classification_json(sum, {"a", "b", "c"}), classification_json(whole, {"a", "b", "c"}));
  EXPECT_THROW(sum += ConfusionCounts(2), ProtocolError);
  EXPECT_THROW(sum.add(3, 0), ProtocolError);
  EXPECT_THROW(sum.add(0, -1), ProtocolError);
  EXPECT_THROW(ConfusionCounts(0), ProtocolError);
}

TEST(ClassificationReport, TextIsATableAndAMatrix) {
  EXPECT_EQ(classification_text(hand_worked(), {"negative", "so-so", "positive"}),
            "loss 0.500000, accuracy 0.7500 on 16 samples\n"
            "\n"
            "label     precision  recall      F1     samples\n"
            "negative     0.7143  0.8333  0.7692           6\n"
            "so-so        0.7500  0.5000  0.6000           6\n"
            "positive     0.8000  1.0000  0.8889           4\n"
            "macro        0.7548  0.7778  0.7527          16\n"
            "\n"
            "label     predicted\n"
            "          negative    so-so  positive\n"
            "negative         5        1         0\n"
            "so-so            2        3         1\n"
            "positive         0        0         4\n");
  EXPECT_THROW(classification_text(hand_worked(), {"a"}), ProtocolError);
  const std::string text = classification_text(hand_worked(), {"a", "b", std::string(23, 'x') + "\xC3\xA9\xC3\xA9"});
  EXPECT_NE(text.find(std::string(21, 'x') + "..."), std::string::npos) << text;
}

TEST(ClassificationReport, ClassesWithoutSamplesAreMarked) {
  ConfusionCounts counts(3);
  counts.add(0, 0, 2);
  counts.add(1, 2);
  const std::string text = classification_text(counts, {"a", "b", "c"});
  EXPECT_NE(text.find("c         0.0000  0.0000  0.0000           0  (no samples)\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("(no samples)"), text.rfind("(no samples)")) << text;
  const nlohmann::ordered_json json = classification_json(counts, {"a", "b", "c"});
  EXPECT_EQ(json["classes"][2]["support"], 0);
  EXPECT_EQ(json["confusion"].dump(), "[[2,0,0],[0,0,1],[0,0,0]]");
}

TEST(ClassificationReport, JsonHoldsEveryScore) {
  const nlohmann::ordered_json json = classification_json(hand_worked(), {"negative", "so-so", "positive"});
  EXPECT_EQ(json["loss"], 0.5);
  EXPECT_EQ(json["accuracy"], 0.75);
  EXPECT_EQ(json["samples"], 16);
  EXPECT_EQ(json["macro"]["f1"], (10.0 / 13 + 6.0 / 10 + 8.0 / 9) / 3);
  EXPECT_EQ(json["classes"][1]["name"], "so-so");
  EXPECT_EQ(json["classes"][1]["label"], 1);
  EXPECT_EQ(json["classes"][1]["support"], 6);
  EXPECT_EQ(json["classes"][2]["recall"], 1.0);
  EXPECT_EQ(json["confusion"].dump(), "[[5,1,0],[2,3,1],[0,0,4]]");
}

}  // namespace
}  // namespace zerostep
