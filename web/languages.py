"""The languages the composer offers: (code, the language's own name). All of ISO 639-1, and those of 639-3 that Mastodon knows
(mastodon/app/helpers/languages_helper.rb). In Latin letters first, by name: a browser's select leaps to what is typed.
"""

LANGUAGES = (
    ("", "not said"), ("sma", "åarjelsaemien gïele"), ("aa", "Afaraf"), ("af", "Afrikaans"), ("ak", "Akan"),
    ("an", "aragonés"), ("ast", "asturianu"), ("ig", "Asụsụ Igbo"), ("gn", "Avañe'ẽ"), ("ae", "avesta"),
    ("ay", "aymar aru"), ("az", "azərbaycan"), ("id", "Bahasa Indonesia"), ("ms", "Bahasa Melayu"),
    ("bm", "bamanakan"), ("su", "Basa Sunda"), ("bi", "Bislama"), ("bs", "bosanski"), ("br", "brezhoneg"),
    ("ca", "català"), ("cs", "čeština"), ("ch", "Chamoru"), ("ny", "chiCheŵa"), ("sn", "chiShona"), ("co", "corsu"),
    ("cnr", "crnogorski"), ("cy", "Cymraeg"), ("da", "dansk"), ("se", "davvisámegiella"), ("de", "Deutsch"),
    ("nv", "Diné bizaad"), ("na", "Dorerin Naoero"), ("yo", "Èdè Yorùbá"), ("ee", "eʋegbe"), ("et", "eesti"),
    ("en", "English"), ("es", "español"), ("eo", "Esperanto"), ("eu", "euskara"), ("fr", "français"),
    ("fo", "føroyskt"), ("fy", "Frysk"), ("ga", "Gaeilge"), ("gv", "Gaelg"), ("sm", "gagana fa'a Samoa"),
    ("gd", "Gàidhlig"), ("gl", "galego"), ("ki", "Gĩgĩkũyũ"), ("ha", "Hausa"), ("ho", "Hiri Motu"),
    ("hr", "hrvatski"), ("io", "Ido"), ("rw", "Ikinyarwanda"), ("rn", "Ikirundi"), ("ia", "interlingua"),
    ("ie", "Interlingue"), ("ik", "Iñupiaq"), ("nd", "isiNdebele"), ("nr", "isiNdebele"), ("xh", "IsiXhosa"),
    ("zu", "isiZulu"), ("is", "íslenska"), ("it", "italiano"), ("jv", "Jawa"), ("smj", "julevsámegiella"),
    ("mh", "Kajin M̧ajeļ"), ("kl", "kalaallisut"), ("moh", "Kanienʼkéha"), ("kr", "Kanuri"), ("csb", "kaszëbsczi"),
    ("kw", "kernewek"), ("kg", "Kikongo"), ("sw", "Kiswahili"), ("ht", "Kreyòl ayisyen"), ("kj", "Kuanyama"),
    ("ku", "kurdî (kurmancî)"), ("jbo", "la .lojban."), ("ldn", "Láadan"), ("la", "latine"), ("lv", "latviešu"),
    ("to", "lea fakatonga"), ("lb", "Lëtzebuergesch"), ("lt", "lietuvių"), ("li", "Limburgs"), ("ln", "lingála"),
    ("lfn", "lingua franca nova"), ("lg", "Luganda"), ("hu", "magyar"), ("mg", "Malagasy"), ("mt", "Malti"),
    ("mi", "Māori"), ("nl", "Nederlands"), ("no", "norsk"), ("nb", "norsk bokmål"), ("nn", "norsk nynorsk"),
    ("oc", "occitan"), ("om", "Oromoo"), ("hz", "Otjiherero"), ("ng", "Owambo"), ("uz", "o‘zbek"),
    ("pdc", "Pennsilfaani-Deitsch"), ("nds", "Plattdüütsch"), ("pl", "polski"), ("pt", "português"), ("ff", "Pulaar"),
    ("ty", "Reo Tahiti"), ("ro", "română"), ("rm", "rumantsch"), ("qu", "Runasimi"), ("za", "Saɯ cueŋƅ"),
    ("sg", "Sängö"), ("sc", "sardu"), ("gsw", "Schwyzerdütsch"), ("sco", "Scots"), ("st", "Sesotho"),
    ("tn", "Setswana"), ("sq", "shqip"), ("ss", "SiSwati"), ("sk", "slovenčina"), ("sl", "slovenščina"),
    ("szl", "ślůnsko godka"), ("so", "Soomaali"), ("fi", "suomi"), ("sv", "svenska"), ("tl", "Tagalog"),
    ("kab", "Taqbaylit"), ("vi", "Tiếng Việt"), ("tok", "toki pona"), ("lu", "Tshiluba"), ("ve", "Tshivenḓa"),
    ("tr", "Türkçe"), ("tk", "türkmen dili"), ("tw", "Twi"), ("fj", "Vakaviti"), ("vo", "Volapük"), ("wa", "walon"),
    ("wo", "Wolof"), ("ts", "Xitsonga"), ("el", "Ελληνικά"), ("av", "авар мацӏ"), ("ab", "аҧсуа бызшәа"),
    ("ba", "башҡорт теле"), ("be", "беларуская"), ("bg", "български"), ("os", "ирон"), ("kv", "коми кыв"),
    ("ky", "кыргызча"), ("mk", "македонски"), ("mn", "монгол"), ("ce", "нохчийн"), ("ru", "русский"),
    ("sr", "српски"), ("tt", "татар"), ("tg", "тоҷикӣ"), ("uk", "українська"), ("xal", "хальмг келн"),
    ("cv", "чӑваш чӗлхи"), ("cu", "ѩзыкъ словѣньскъ"), ("kk", "қазақ тілі"), ("hy", "հայերեն"), ("yi", "ייִדיש"),
    ("he", "עברית"), ("ug", "ئۇيغۇرچە"), ("ur", "اردو"), ("ar", "العربية"), ("zba", "باليبلن"), ("sd", "سنڌي"),
    ("fa", "فارسی"), ("ps", "پښتو"), ("ckb", "کوردیی ناوەندی"), ("ks", "کٲشُر"), ("dv", "ދިވެހި"), ("ne", "नेपाली"),
    ("pi", "पाऴि"), ("mr", "मराठी"), ("sa", "संस्कृतम्"), ("hi", "हिन्दी"), ("as", "অসমীয়া"), ("bn", "বাংলা"),
    ("pa", "ਪੰਜਾਬੀ"), ("gu", "ગુજરાતી"), ("or", "ଓଡ଼ିଆ"), ("ta", "தமிழ்"), ("te", "తెలుగు"), ("kn", "ಕನ್ನಡ"),
    ("ml", "മലയാളം"), ("si", "සිංහල"), ("th", "ไทย"), ("lo", "ລາວ"), ("bo", "བོད་སྐད་"), ("dz", "རྫོང་ཁ"),
    ("my", "မြန်မာ"), ("ka", "ქართული"), ("ti", "ትግርኛ"), ("am", "አማርኛ"), ("chr", "ᏣᎳᎩ"), ("iu", "ᐃᓄᒃᑎᑐᑦ"),
    ("oj", "ᐊᓂᔑᓈᐯᒧᐎᓐ"), ("cr", "ᓀᐦᐃᔭᐍᐏᐣ"), ("km", "ខ្មែរ"), ("zgh", "ⵜⴰⵎⴰⵣⵉⵖⵜ"), ("zh", "中文"), ("ja", "日本語"),
    ("ii", "ꆈꌠꉙ"), ("vai", "ꕙꔤ"), ("ko", "한국어"),
)  # fmt: skip


def offered(chosen: str) -> tuple[tuple[str, str], ...]:
    """What is stored stays choosable, such as a dialect."""
    return LANGUAGES if chosen in dict(LANGUAGES) else (*LANGUAGES, (chosen, chosen))
