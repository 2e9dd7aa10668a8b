#pragma once
#include <gtest/gtest.h>

#include <string>

// That a text has a part; a failure shows the whole text.
#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
