// The texts of errors, into which callers' own texts come.
#include <string>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

std::string message_for(const std::string& codec) {
    kvc_error error = {sizeof error, 0, ""};
    REQUIRE(kvc_codec_format(codec.c_str(), nullptr, 0, &error) == 0);
    return error.message;
}

}  // namespace

TEST_CASE("messages: no character is cut, wherever the room ends") {
    for (const std::string character : {"a", "\u00e9", "\u20ac", "\U0001f600"}) {
        for (size_t shift = 0; shift < 5; shift++) {
            std::string codec(shift, 'x');
            while (codec.size() < 400)
                codec += character;
            const std::string message = message_for(codec);
            CAPTURE(message);
            CHECK(message.size() <= sizeof kvc_error::message - 1);
            CHECK(message.size() + character.size() > sizeof kvc_error::message - 1);
            CHECK(message.substr(message.size() - character.size()) == character);
        }
    }
}

TEST_CASE("messages: bytes that are no UTF-8 are question marks, and the characters beside them stay") {
    struct Case {
        const char *given, *shown;
    };
    for (const Case& c : {Case{"<\xff>", "<?>"},
                          {"<\xc3>", "<?>"},
                          {"<\x80\xbf>", "<\?\?>"},
                          {"<\xc0\xaf\xc1\xbf>", "<\?\?\?\?>"},
                          {"<\xe0\x9f\xbf>", "<\?\?\?>"},
                          {"<\xe0\xa0\x80>", "<\xe0\xa0\x80>"},
                          {"<\xed\x9f\xbf>", "<\xed\x9f\xbf>"},
                          {"<\xed\xa0\x80>", "<\?\?\?>"},
                          {"<\xee\x80\x80>", "<\xee\x80\x80>"},
                          {"<\xf0\x8f\xbf\xbf>", "<\?\?\?\?>"},
                          {"<\xf0\x90\x80\x80>", "<\xf0\x90\x80\x80>"},
                          {"<\xf4\x8f\xbf\xbf>", "<\xf4\x8f\xbf\xbf>"},
                          {"<\xf4\x90\x80\x80>", "<\?\?\?\?>"},
                          {"<\xf5\x80>", "<\?\?>"},
                          {"<\xe2\x82>", "<\?\?>"},
                          {"<\xe2\x82\xc3\xa9\xf0>", "<\?\?\xc3\xa9?>"},
                          {"<\xe2\x82", "<\?\?"}}) {
        const std::string message = message_for(c.given);
        CAPTURE(message);
        CHECK(message.find(c.shown) != std::string::npos);
    }
}
