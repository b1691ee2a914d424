"""Personal data drawn at random and put where logs, settings and programs hold them; and what only looks like them."""

import ipaddress
import random
import string

__all__ = ["KEYS", "LOOKALIKES", "PLACES", "made_keys", "made_personal_data"]

FIRST_NAMES = "anna bob chen dmitri elena faruk greta hassan ines jurgen kofi lucia maria nadia omar pedro quinn rosa sven tariq"
FIRST = FIRST_NAMES.split()
LAST_NAMES = "schmidt rossi novak garcia smith jones dubois kowalski ivanov tanaka silva meyer okafor lindqvist oconnor papadopoulos"
LAST = LAST_NAMES.split()
DOMAIN_NAMES = (
    "gmail.com yahoo.com outlook.com web.de gmx.net proton.me qq.com 163.com mail.ru cs.stanford.edu inf.ed.ac.uk inria.fr kernel.org "
    "debian.org redhat.com uni-muenchen.de usp.br iitb.ac.in u-tokyo.ac.jp pydantic.dev buoyant.io nasa.gov mit.edu posteo.de abv.bg"
)
DOMAINS = DOMAIN_NAMES.split()
PLACES = {
    "email": (
        "# Author: Some Body <{}>\n",
        "Copyright (c) 2019 {}. All rights reserved.\n",
        '"email": "{}",',
        "mailto:{}",
        "send to {} or call",
        "@author {}\n",
        "maintainer_email='{}'",
        "To: {}\nSubject: hi\n",
        "({})",
        "{},",
        'authors = ["X <{}>"]\n',
        "E-Mail:{}\n",
        "see {}.\n",
        "'{}' -> admin\n",
    ),
    "ip": (
        '{} - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200\n',
        "ssh root@{}\n",
        "server {}:8080 weight=5;\n",
        "nameserver {}\n",
        'HOST = "{}"\n',
        "Failed password for root from {} port 22 ssh2\n",
        "http://{}/index.html",
        "{}\tgateway.local\n",
        "allow {}/32;\n",
        "ping {}\n",
        "client: {}, server: _\n",
        'remote_addr="{}"',
        "connect(('{}', 80))\n",
        "AllowedIPs = {}/32\n",
    ),
    "key": (
        'api_key = "{}"\n',
        "export API_TOKEN={}\n",
        "aws_secret_access_key = {}\n",
        '"client_secret": "{}",',
        "  secretKey: '{}'\n",
        "ACCESS_TOKEN={}\n",
        'auth_token: "{}"',
        'private_key="{}";',
        "x-api-key: {}\n",
        "encryptionKey = '{}'\n",
    ),
    "phone": ("Phone: {}\n", "tel:{}", "call {} now", '"phone": "{}"', "Mobile {}.", "contact ({})\n", "WhatsApp {}, please"),
    "iban": ("IBAN: {}\n", "account {} at the bank", '"iban": "{}"', "pay to {}.", "{}\n"),
}
LOOKALIKES = (
    "y = X@beta.reshape(-1)",
    "A@B.T",
    "logits = h@w.data",
    "this@Activity.name",
    "icon@3x.png",
    "serial-getty@ttyS0.service",
    "foo@1.2.3",
    "pkg@v2.0.1-rc.dev",
    "[@media screen]",
    "@app.route",
    "@org/package",
    "memcpy@GLIBC_2.2.5",
    "image@sha256:abc",
    '__version__ = "4.10.0.84"',
    "<Version>81.0.44.2</Version>",
    "numpy>=1.21.0.3",
    "2.5.29.17",
    "1.3.6.1",
    "2.23.140.1",
    "section 7.2.1.5",
    "RFC 9110 15.5.1.2",
    "12:34:56:78:90:12:34:56",
    "00:1a:2b:3c:4d:5e",
    "std::a::b",
    "::1",
    "fe80::1",
    "2001:db8::2",
    "10:20:30:40:50:60:70:80",
    "255.255.255.0",
    "10.1.2.3",
    "192.168.100.200",
    "224.0.0.251",
    "127.0.0.53",
    "sk-toggleable__label-arrow",
    "sk-estimator-doc-link-fitted-hover",
    'api_key = os.getenv("API_KEY_FOR_PRODUCTION_1")',
    "password = getpass()",
    'password="password"',
    "password: string;",
    'api_key: "YOUR_API_KEY_GOES_HERE_123"',
    "private_key = serialization.load_pem_private_key(data2)",
    'token_type_id="segment_embedding_2"',
    "access_key = config.access_key_v2_setting",
    "secret_key: ${SECRET_KEY_FROM_ENVIRONMENT_2}",
    "+0.123456789",
    "a +12345678 b",
    "2021-03-04",
    "1-800-FLOWERS",
    "555-0100",
    "DE00123456781234567890",
    "GB12ABCD12345612345678",
    "ABCD1234EFGH5678IJKL",
    "0x1234567890abcdef",
    "d41d8cd98f00b204e9800998ecf8427e",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
)
LETTERS, HEX = string.ascii_letters + string.digits, "0123456789abcdef"
# issuer -> (before, alphabet, length, behind): forms as their documentation gives them.
KEYS = {
    "aws": ("AKIA", string.ascii_uppercase + "234567", 16, ""),
    "google": ("AIza", LETTERS + "_", 35, ""),
    "github": ("ghp_", LETTERS, 36, ""),
    "github app": ("ghs_", LETTERS, 36, ""),
    "gitlab": ("glpat-", LETTERS, 20, ""),
    "slack": ("xoxb-7310938472615-", LETTERS, 24, ""),
    "stripe": ("sk_live_", LETTERS, 24, ""),
    "hugging face": ("hf_", LETTERS, 34, ""),
    "openai": ("sk-", LETTERS, 48, ""),
    "openai project": ("sk-proj-", LETTERS + "_", 74, ""),
    "anthropic": ("sk-ant-api03-", LETTERS + "_", 93, "AA"),
    "npm": ("npm_", LETTERS, 36, ""),
    "pypi": ("pypi-AgEIcHlwaS5vcmc", LETTERS + "_", 150, ""),
    "digitalocean": ("dop_v1_", HEX, 64, ""),
    "docker": ("dckr_pat_", LETTERS, 27, ""),
    "shopify": ("shpat_", HEX, 32, ""),
    "vault": ("hvs.", LETTERS, 90, ""),
    "groq": ("gsk_", LETTERS, 52, ""),
    "replicate": ("r8_", LETTERS, 37, ""),
    "rubygems": ("rubygems_", HEX, 48, ""),
    "google oauth": ("GOCSPX-", LETTERS, 28, ""),
}


def made_keys(draw: random.Random) -> list[tuple[str, str]]:
    """Return (issuer, key) for each issuer."""
    return [
        (name, before + "".join(draw.choices(alphabet, k=length)) + behind) for name, (before, alphabet, length, behind) in KEYS.items()
    ]


def made_personal_data(kind: str, draw: random.Random) -> tuple[str, str]:
    """Return (value, text that holds it once)."""
    value = {"email": made_email, "ip": made_address, "key": made_key, "phone": made_telephone, "iban": made_iban}[kind](draw)
    return value, draw.choice(["", "x = 1\n", "See also:\n\n"]) + draw.choice(PLACES[kind]).format(value)


def made_email(draw: random.Random) -> str:
    """Return an address of a made person."""
    user = draw.choice(["{f}.{l}", "{f}{l}", "{f}", "{f}_{n}", "{f}-{l}", "{f}+lists", "{f}{n}", "{f}.{l}{n}"])
    name = user.format(f=draw.choice(FIRST), l=draw.choice(LAST), n=draw.randrange(1, 99))
    return f"{name}@{draw.choice(DOMAINS)}"


def made_address(draw: random.Random) -> str:
    """Return a public address, one in five of the sixth version."""
    while True:
        number = draw.getrandbits(32) if draw.random() < 0.8 else (0x2A02 << 112) | draw.getrandbits(112)
        address = ipaddress.ip_address(number)
        if address.is_global and not address.is_multicast and str(address)[:4] not in ("2.5.", "1.3.", "2.23", "192."):
            return str(address)


def made_key(draw: random.Random) -> str:
    """Return a key as services draw them: letters and digits, hexadecimal, base64, a UUID."""
    alphabet, length = draw.choice([(LETTERS, 32), (LETTERS, 40), (HEX, 32), (HEX, 40), (HEX, 64), (LETTERS + "+/", 40), (LETTERS, 24)])
    return "".join(draw.choices(alphabet, k=length))


def made_telephone(draw: random.Random) -> str:
    """Return a number of a plan's mobile or city range, in one of the usual writings."""
    form = draw.choice(
        [
            "+49 151 2#######",
            "+1 (415) 2##-####",
            "+1-212-6##-####",
            "+44 7911 1#####",
            "+33 6 1# ## ## ##",
            "+4930901###",
            "+86 138 1### ####",
            "+91 98200 #####",
        ]
    )
    return "".join(str(draw.randrange(10)) if sign == "#" else sign for sign in form)


def made_iban(draw: random.Random) -> str:
    """Return an account with the check digits ISO 13616 asks for, in one string or in groups of four."""
    country, length = draw.choice([("DE", 18), ("FR", None), ("NL", None), ("GB", None), ("PL", 24)])
    digits = "".join(draw.choices(string.digits, k=length or 10))
    account = {"NL": "ABNA" + digits, "GB": "NWBK" + digits + "1234", "FR": french_account(draw)}.get(country, digits)
    number = "".join(str(int(sign, 36)) for sign in f"{account}{country}00")
    iban = f"{country}{98 - int(number) % 97:02}{account}"
    return iban if draw.random() < 0.5 else " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))


def french_account(draw: random.Random) -> str:
    """Return bank, branch and account with the key the French format ends in."""
    bank, branch, account = (draw.randrange(10**size) for size in (5, 5, 11))
    return f"{bank:05}{branch:05}{account:011}{97 - (89 * bank + 15 * branch + 3 * account) % 97:02}"
