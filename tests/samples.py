"""What the vendor's own document shows, word for word, and the same as it should be."""

from __future__ import annotations

# Three commas are missing.
AS_PRINTED = """[
   {
       "badgeMetaId": "696f0fd40772ad476ecf74ac",
       "customerId": 555567088
       "earnExpiresOn": 1705828011
  },
   {
   "badgeMetaId": "697a16140772ad476ecfe51c",
   "customerId": 12098734,
   "earnEventDate": 1635792000,
   "earnEventDateISO":"2025-09-10T15:00:00+05:30"
   "earnExpiresOn": 1667328000
   "earnExpiresOnISO":"2022-11-02T00:10:00+05:30"
   }
]"""
SAMPLE = AS_PRINTED.replace('\n       "earnExp', ',\n       "earnExp').replace(
    '\n   "earnExp', ',\n   "earnExp'
)
DEFAULT_BODY = """[ { "badgeMetaId": "654e08f2041fd452b3ef5b2e", "customerId": 382442802,
"earnEventDate": 1674292011, "earnExpiresOn": 1705828011 }, { "badgeMetaId": "654e08f2041fd452b3ef5b2e",
"customerId": 382442802, "earnEventDate": 1674292011, "earnExpiresOn": 1705828011 } ]"""
