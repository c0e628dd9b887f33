"""Words that mean the same to the sandbox's matcher.

The law of this file: data only. A *concept* is a set of words in everyday use; a category named by one of them is
understood by all of them. Phrases of two words are written with a space. No sentence stands here.
"""

# ruff: noqa: SIM905 (word lists are read and edited as text)

from __future__ import annotations

CONCEPTS: dict[str, str] = {
    # --- work and money ---------------------------------------------------------------------------------------
    "money": "billing bill billed bills invoice invoiced charge charged charges payment pay paid payable refund"
    " refunded refunds receipt subscription renewal price pricing priced vat tax taxes discount coupon"
    " overcharged double checkout fee fees debit credit règlement payé facture rechnung bezahlt factura"
    " pago",
    "finance": "finance financial finances cost costs budget budgets spend spending revenue profit loss expense"
    " expenses quarter quarterly earnings bank banking stock stocks shares investor investment loan loans"
    " mortgage interest accounting cash payroll salary inflation economy fund funding invoice invoices"
    " price",
    "refund": "refund refunds refunded reimburse reimbursed reimbursement return returned back",
    "technical": "technical technology tech bug bugs error errors crash crashes crashed crashing broken fail fails"
    " failed failing failure exception api endpoint timeout 500 404 503 slow performance loading load"
    " glitch freeze freezes frozen outage integration webhook sdk latency malfunction",
    "engineering": "engineering engineer engineers developer developers code coding deploy deployment deployed server"
    " servers build pipeline database infrastructure refactor release repository kubernetes backend"
    " frontend",
    "access": "access account accounts login log logged logging signin sign signed password passwords passcode"
    " reset locked username email profile permission permissions 2fa factor authentication authenticate"
    " verification credentials mfa otp settings avatar",
    "feature": "feature features suggestion suggest idea ideas wish add adding please support enhancement improve"
    " improvement roadmap option love nice mode dark theme",
    "marketing": "marketing campaign campaigns brand branding advert ads advertising seo newsletter audience launch"
    " promotion social clicks impressions conversion",
    "sales": "sales sell selling deal deals lead leads prospect quote demo pricing customer pipeline discount buy"
    " purchase order",
    "support": "support help helpdesk assistance ticket tickets customer service question agent",
    "hr": "hr hiring hire recruit recruiting employee employees onboarding vacation leave payroll benefits"
    " candidate interview job jobs resume career",
    "legal": "legal law lawyer attorney contract contracts clause compliance gdpr lawsuit court judge sue terms"
    " liability privacy nda copyright patent",
    "security": "security breach hacked hack phishing malware vulnerability attack fraud fraudulent suspicious"
    " compromised stolen unauthorized exploit",
    "cancel": "cancel cancels cancelled canceled cancellation churn terminate close unsubscribe stop end quit leave",
    "operations": "operations logistics warehouse inventory supply procurement vendor facility",
    # --- parcels ----------------------------------------------------------------------------------------------
    "delivery": "delivery deliver delivered deliveries shipping ship shipped shipment parcel parcels package packages"
    " tracking courier arrive arrived arrives arrival van post posted dispatch livraison livré colis"
    " lieferung paket",
    "lost": "lost missing tracking track came vanished disappeared nothing where silent undelivered stuck"
    " misplaced gone",
    "damaged": "damaged damage broken cracked crack split crushed torn shattered smashed dented scratched leaking"
    " defective fragile bent intact",
    "address": "address addresses moved moving move street postcode zip flat apartment redirect relocation relocated"
    " house new home",
    # --- banking ----------------------------------------------------------------------------------------------
    "card": "card cards debit credit visa mastercard plastic",
    "transfer": "transfer transfers transferred wire sent send sending beneficiary recipient remittance",
    "topup": "top topup topping deposit deposited funds",
    "cashpoint": "atm cash withdraw withdrawal withdrew cashpoint machine dispenser",
    "exchange": "exchange exchanged currency currencies rate rates convert conversion foreign fx",
    "pin": "pin code passcode digits unblock blocked",
    "identity": "identity verify verification verified id document documents passport proof kyc",
    "activate": "activate activation activating activated start using enable",
    "theft": "lost stolen theft steal stole robbed missing wallet",
    "duration": "pending waiting long time wait yet still days processing estimate when soon",
    "recognised": "recognise recognised recognize recognized unknown unfamiliar strange",
    "declined": "declined decline rejected refused denied",
    "twice": "twice double duplicate duplicated two times second",
    "expire": "expire expires expired expiry expiration expiring",
    "virtual": "virtual digital disposable online",
    "spare": "spare extra additional another second",
    "country": "country countries europe eu abroad region where",
    "age": "age old years child children kid kids son daughter minor teenager",
    # --- opinion and urgency ----------------------------------------------------------------------------------
    "positive": "positive praise good great excellent love loved loves amazing awesome wonderful fantastic happy"
    " thanks thank perfect best delightful satisfied recommend compliment",
    "negative": "negative complaint complain complaints bad terrible awful worst hate hated horrible poor angry"
    " disappointed disappointing unacceptable rude useless annoyed frustrated unhappy dissatisfied",
    "urgent": "urgent urgently asap immediately emergency critical high priority blocker",
    "routine": "low normal routine minor whenever eventually",
    "spam": "spam winner lottery viagra prize click offer unsolicited free unsubscribe junk scam",
    "question": "question questions how what inquiry enquiry ask asking wondering faq information info",
    # --- the world --------------------------------------------------------------------------------------------
    "travel": "travel trip trips ferry flight flights fly flew airport hotel train beach holiday holidays vacation"
    " tour tourist tourism passport journey cruise island fjord lake mountain mountains sunset landscape"
    " hike hiking destination luggage crossed",
    "food": "food eat ate eating restaurant recipe recipes cook cooking dish dinner lunch breakfast bake baked"
    " bread cheese wine coffee tea meal chef taste delicious fruit vegetable pizza pasta sugar snack",
    "health": "health healthy medical medicine doctor doctors hospital patient patients disease symptom symptoms"
    " vaccine therapy diet fever pain nurse clinic surgery fitness mental sick illness treatment",
    "sport": "sport sports game games match team teams football soccer basketball tennis goal scored score coach"
    " league cup championship olympic race runner athlete player players season cricket",
    "science": "science scientific scientist scientists research study experiment physics chemistry biology space"
    " planet telescope galaxy theory laboratory species genome quantum climate",
    "politics": "politics political government election elections president minister parliament vote voters senate"
    " policy congress party diplomat law democracy",
    "entertainment": "entertainment movie movies film films music song songs album concert actor actress singer"
    " series tv"
    " show theatre celebrity band festival video",
    "education": "education school schools student students teacher teachers university college course lesson exam"
    " homework classroom degree learning learn",
    "business": "business company companies firm startup merger acquisition ceo industry shareholders corporate trade"
    " enterprise meeting strategy",
    "computing": "software hardware computer computers app apps website internet cloud data phone smartphone laptop"
    " device ai robot algorithm chip digital online program",
    "nature": "nature animal animals dog dogs cat cats bird birds forest tree trees river ocean sea wildlife garden"
    " flower flowers fish",
    "weather": "weather rain rainy snow storm storms sunny sunshine wind windy temperature forecast cloud clouds"
    " hurricane heatwave cold",
    "fashion": "fashion apparel clothes clothing dress shirt shoes shoe jacket jeans jewellery style wear coat hat"
    " sneaker sneakers trousers skirt",
    "furniture": "furniture sofa couch chair chairs table desk shelf lamp bed cupboard wardrobe drawer",
    "electronics": "electronics electronic phone camera headphones charger battery tv television laptop speaker tablet"
    " console screen",
    "vehicle": "vehicle vehicles car cars truck bus motorcycle bicycle bike engine tyre tire brake driving drive",
    "property": "property estate apartment rent rental tenant landlord house housing lease",
    "person": "person people human man woman face portrait crowd",
}

CATCH_ALL = frozenset(
    "other others general misc miscellaneous unknown none uncategorized unclassified everything anything else rest"
    " default fallback needs_review review na".split()
)
"""Names and descriptions of categories that take what fits nowhere else."""

WEAK_NAMES = frozenset("request requests issue issues problem problems type category topic case team".split())
"""Words that say little in a category's name."""

STOP_WORDS = frozenset(
    "a about after again all also am an and any are as at be been before being but by can cannot did do does doing for"
    " from get gets getting go going had has have having he her here him his i if in into is it its just like me more"
    " most my no of off on once one only or our out over own same she should since so some such than that the their"
    " them then there these they thing this those to too under until up us very was we were what when which while"
    " who whom why will with would you your im ive dont doesnt didnt isnt wasnt cant wont".split()
)

GENERIC_LABELS: tuple[tuple[str, str], ...] = (
    ("travel", "Trips, places, transport and holidays"),
    ("finance", "Money, banks, markets, prices and invoices"),
    ("technology", "Computers, software, devices, errors and the internet"),
    ("health", "Medicine, illness, fitness and care"),
    ("sport", "Games, teams, matches and athletes"),
    ("food", "Cooking, eating, restaurants and recipes"),
    ("science", "Research, nature and discovery"),
    ("politics", "Government, elections and policy"),
    ("entertainment", "Film, music, television and celebrities"),
    ("education", "Schools, courses and learning"),
    ("business", "Companies, trade and work"),
    ("nature", "Animals, plants and landscapes"),
    ("fashion", "Clothes, shoes and style"),
    ("customer_service", "Support requests, orders, deliveries and complaints"),
    ("general", "Everything else"),
)
"""What an input without categories is classified into: the sandbox's own choice, the API lists none."""
