"""Values that are on a list: countries, languages, time zones as Rails names them, currencies. Pure data."""

_COUNTRIES = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO
    JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR
    MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO
    RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV
    TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"""
_LANGUAGES = """
    af agq ak am ar as ay az bas be bem bez bg bn bo br bs ca cgg chr cs cy da dav de dje dua dyo dz ebu ee el en eo
    es et eu ewo fa ff fi fil fo fr ga gd gl gn gsw gu guz gv ha haw he hi hr hu hy id ig ii is it iu ja jmc jv ka kab
    kam ki kk kl kln km kn ko ks ksb ksf ku kw ky la lb lg ln lo lt lu luo luy lv mas mer mfe mg mk ml mn mo mr ms mt
    mua my naq nb nd ne nl nn nus nyn om pa pl ps pt qu rm ro rof ru rw rwk sa saq sbp sd se seh shi si sk sl sn so
    sq sr sv sw swc ta te teo tg th ti tk tl to tr tt twq tzm ug uk ur uz vai vi vun xh yav yi yo zh zu"""
_RAILS_ZONES = """
    International Date Line West; Midway Island; American Samoa; Hawaii; Alaska; Pacific Time (US & Canada); Tijuana;
    Mountain Time (US & Canada); Arizona; Chihuahua; Mazatlan; Central Time (US & Canada); Saskatchewan; Guadalajara;
    Mexico City; Monterrey; Central America; Eastern Time (US & Canada); Indiana (East); Bogota; Lima; Quito;
    Atlantic Time (Canada); Caracas; La Paz; Santiago; Newfoundland; Brasilia; Buenos Aires; Montevideo; Georgetown;
    Puerto Rico; Greenland; Mid-Atlantic; Azores; Cape Verde Is.; Dublin; Edinburgh; Lisbon; London; Casablanca;
    Monrovia; UTC; Belgrade; Bratislava; Budapest; Ljubljana; Prague; Sarajevo; Skopje; Warsaw; Zagreb; Brussels;
    Copenhagen; Madrid; Paris; Amsterdam; Berlin; Bern; Zurich; Rome; Stockholm; Vienna; West Central Africa; Bucharest;
    Cairo; Helsinki; Kyiv; Riga; Sofia; Tallinn; Vilnius; Athens; Istanbul; Minsk; Jerusalem; Harare; Pretoria;
    Kaliningrad; Moscow; St. Petersburg; Volgograd; Samara; Kuwait; Riyadh; Nairobi; Baghdad; Tehran; Abu Dhabi; Muscat;
    Baku; Tbilisi; Yerevan; Kabul; Ekaterinburg; Islamabad; Karachi; Tashkent; Chennai; Kolkata; Mumbai; New Delhi;
    Kathmandu; Dhaka; Sri Jayawardenepura; Almaty; Astana; Novosibirsk; Rangoon; Bangkok; Hanoi; Jakarta; Krasnoyarsk;
    Beijing; Chongqing; Hong Kong; Urumqi; Kuala Lumpur; Singapore; Taipei; Perth; Irkutsk; Ulaanbaatar; Seoul; Osaka;
    Sapporo; Tokyo; Yakutsk; Darwin; Adelaide; Canberra; Melbourne; Sydney; Brisbane; Hobart; Vladivostok; Guam;
    Port Moresby; Magadan; Srednekolymsk; Solomon Is.; New Caledonia; Fiji; Kamchatka; Marshall Is.; Auckland;
    Wellington; Nuku'alofa; Tokelau Is.; Chatham Is.; Samoa"""
_CURRENCIES = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLF
    CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK
    HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA
    MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB
    RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
    UYU UZS VED VES VND VUV WST XAF XAG XAU XCD XCG XOF XPD XPF XPT YER ZAR ZMW ZWG ZWL BOV CHE CHW COU MXV USN UYI UYW
    XBA XBB XBC XBD XDR XSU XTS XUA XXX BYR EEK LTL LVL MRO STD VEF ZMK"""

COUNTRIES = frozenset(_COUNTRIES.split())  # ISO 3166-1 alpha-2 (attr)
COUNTRY_NAMES = {"australia": "AU"}  # the only other spelling that a page prints (attr)
LANGUAGES = frozenset(_LANGUAGES.split())  # (lang)
# The page prints one of them, and says "Rails style" (attr): that it is the list of Rails is a guess.
RAILS_ZONES = frozenset(" ".join(_RAILS_ZONES.split()).split("; "))
CURRENCIES = frozenset(_CURRENCIES.split())  # ISO 4217 (purch); which of its older codes still count is a guess
