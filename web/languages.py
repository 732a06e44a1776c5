"""The languages the composer offers: (ISO 639-1 code, the language's own name)."""

LANGUAGES = (
    ("", "not said"), ("ar", "العربية"), ("ca", "català"), ("cs", "čeština"), ("da", "dansk"), ("de", "Deutsch"),
    ("el", "Ελληνικά"), ("en", "English"), ("es", "español"), ("fi", "suomi"), ("fr", "français"), ("he", "עברית"),
    ("hu", "magyar"), ("it", "italiano"), ("ja", "日本語"), ("ko", "한국어"), ("nl", "Nederlands"), ("no", "norsk"),
    ("pl", "polski"), ("pt", "português"), ("ro", "română"), ("ru", "русский"), ("sv", "svenska"), ("tr", "Türkçe"),
    ("uk", "українська"), ("zh", "中文"),
)  # fmt: skip
