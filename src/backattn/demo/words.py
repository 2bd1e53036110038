"""Words of the sample: names of every kind, nouns and adjectives.

An item is ``german=english``, or one word where both are the same; ``_`` is a space inside an item. All names
of people and organisations are combined at random. As in real text, several are also common nouns (Berg,
Weber, Essen) or names of two kinds (Sofia, Hartmann).
"""

from dataclasses import dataclass
from typing import Literal

Gender = Literal["m", "f", "n", "-"]  # "-": a name without an article


@dataclass(frozen=True)
class Item:
    """A word or name in both languages.

    :param gender: of the German word; ``-`` takes no article.
    :param article: whether the English noun phrase begins with "the".
    """

    german: str
    english: str
    gender: Gender = "-"
    article: bool = False


def items(text: str, gender: Gender = "-", *, article: bool = False) -> tuple[Item, ...]:
    """Read a list of ``german=english`` words."""
    pairs = (word.replace("_", " ").partition("=") for word in text.split())
    return tuple(Item(german, english or german, gender, article) for german, _, english in pairs)


WOMEN = items("""
Ada Agnes Alma Amelie Anja Anke Antje Astrid Beate Berta Birgit Britta Carla Cecilia Charlotte Clara Cordula
Dagmar Daria Doris Edith Elif Elisa Elke Emilia Erika Esther Eva Fatima Florence Franka Frida Gerda Gisela
Greta Hanna Hedwig Heike Helga Henrike Ida Ilse Imke Ines Ingrid Irena Jana Johanna Jutta Karin Katja
Kirsten Lena Leonie Linda Lotte Luisa Magda Maike Margit Marlene Mathilda Meike Mira Nadja Nele Nora Olga
Paula Petra Ragna Renate Rieke Rosa Sabine Selma Silke Sofia Svenja Sydney Tamara Tessa Ulrike Ursula
Valencia Vera Victoria Wanda Wiebke Yasmin Zoe
""")

MEN = items("""
Achim Albert Alfons Anselm Armin Arne Arthur August Benno Bernd Bodo Boris Bruno Carsten Cem Christoph
Clemens Daniel Detlef Dirk Eberhard Eckhard Edgar Egon Emil Enno Erik Ernst Eugen Falk Felix Ferdinand
Florian Frank Friedrich Georg Gerald Gregor Gustav Hagen Hannes Hans Harald Heiko Henning Hugo Igor Ingo Ivo
Jakob Jan Jens Joachim Jonas Julius Kai Karl Kilian Klaus Konrad Konstantin Kurt Lars Leo Linus Lorenz
Ludwig Magnus Manfred Marek Mats Moritz Niklas Norbert Olaf Oskar Otto Patrick Paul Ralf Rainer Reinhard
Rolf Rudi Sebastian Severin Stefan Sven Theo Tilman Timo Torsten Uwe Viktor Volker Walter Wenzel Wilhelm
Yusuf
""")

SURNAMES = items("""
Ahlers Albrecht Altmann Anders Arndt Bach Bamberg Bartels Baumann Becker Behrens Berg Bergen Bischof Blum
Bosse Brandt Braun Bremer Buchholz Burkhard Busch Claasen Conrad Dahlke Decker Demir Diehl Dorn Drexler
Ebert Eckstein Ehlers Eichner Engel Falke Feldmann Fink Fischer Fleck Forster Frank Freitag Fuchs Gabler
Gehrke Geiger Glas Graf Grabow Gruber Haas Hagedorn Hahn Halle Hartmann Hauser Heller Hellwig Herzog Hinz
Hofer Holm Horn Huber Imhof Jahn Janssen Kaiser Kaminski Kaya Keller Kern Kessler Kiel Kirchner Klose Koch
Kowalski Kramer Kranz Krause Kruse Kugler Kunze Lang Lehmann Lenz Lindner London Lorenz Ludwig Lyon Maurer
May Menzel Merkel Mertens Metzger Moll Montag Moser Naumann Neubert Nolte Novak Oldenburg Opitz Oster Ott
Paulsen Peters Petrov Pfeiffer Pohl Posen Probst Quast Raabe Rademacher Reiter Richter Ritter Rohde Roth
Rudolf Sander Sauer Schade Schiller Schmitz Schneider Scholz Schubert Seidel Seiler Siebert Sommer Specht
Stark Stein Steiner Sturm Tauber Teichmann Thiele Thoma Ullmann Ulm Unger Vogel Voigt Wagner Walch
Washington Weber Wegner Weiland Wendt Werner Wiese Winkler Winter Wolf Wulf Yilmaz Zander Zeller Ziegler
Zimmer Zorn
""")

PLACES = (
    *items("""
Aachen Augsburg Baden Bamberg Basel Bayreuth Bergen Berlin Bern Bielefeld Bochum Bonn Boston Bordeaux
Bregenz Bremen Chicago Dortmund Dresden Dublin Duisburg Erfurt Essen Freiburg Gera Graz Halle Hamburg
Heidelberg Helsinki Hof Ingolstadt Innsbruck Istanbul Jena Jerusalem Karlsruhe Kassel Kiel Konstanz Lausanne
Leipzig Lima Linz London Lübeck Lyon Madrid Mainz Manchester Marseille Minsk Münster Nantes New_York
Oldenburg Oslo Oxford Palermo Paris Passau Porto Potsdam Riga Rostock Rotterdam Salzburg Santiago Seoul
Shanghai Singen Sofia Stockholm Stuttgart Sydney Tallinn Toronto Trier Tunis Turin Ulm Utrecht Valencia
Washington Weimar Wuppertal Würzburg Algier=Algiers Antwerpen=Antwerp Athen=Athens Bagdad=Baghdad
Belgrad=Belgrade Braunschweig=Brunswick Brünn=Brno Brüssel=Brussels Bukarest=Bucharest Damaskus=Damascus
Danzig=Gdansk Den_Haag=The_Hague Florenz=Florence Genf=Geneva Gent=Ghent Hannover=Hanover Havanna=Havana
Kairo=Cairo Kiew=Kyiv Köln=Cologne Kopenhagen=Copenhagen Krakau=Krakow Lissabon=Lisbon Luzern=Lucerne
Lüttich=Liège Mailand=Milan Moskau=Moscow München=Munich Neapel=Naples Nürnberg=Nuremberg Peking=Beijing
Posen=Poznan Prag=Prague Rom=Rome Sevilla=Seville Singapur=Singapore Straßburg=Strasbourg Teheran=Tehran
Tokio=Tokyo Triest=Trieste Venedig=Venice Warschau=Warsaw Wien=Vienna Zürich=Zurich Ägypten=Egypt
Argentinien=Argentina Bayern=Bavaria Belgien=Belgium Böhmen=Bohemia Brasilien=Brazil Bulgarien=Bulgaria
Chile China Dänemark=Denmark Deutschland=Germany England Estland=Estonia Finnland=Finland Frankreich=France
Griechenland=Greece Hessen=Hesse Indien=India Irland=Ireland Island=Iceland Italien=Italy Japan
Kanada=Canada Kenia=Kenya Kroatien=Croatia Kuba=Cuba Lettland=Latvia Litauen=Lithuania Marokko=Morocco
Mexiko=Mexico Norwegen=Norway Österreich=Austria Peru Polen=Poland Portugal Rumänien=Romania Russland=Russia
Sachsen=Saxony Schlesien=Silesia Schottland=Scotland Schwaben=Swabia Schweden=Sweden Serbien=Serbia
Spanien=Spain Thüringen=Thuringia Tirol=Tyrol Tschechien=Czechia Tunesien=Tunisia Ungarn=Hungary
"""),
    *items("Lausitz=Lusatia Mongolei=Mongolia Pfalz=Palatinate Schweiz=Switzerland Slowakei=Slovakia "
           "Toskana=Tuscany Türkei=Turkey Ukraine", "f"),
)  # fmt: skip

ORGANISATIONS = (
    *items("""
Abendstern Aldora Alpiva Altopharm Amberflug Aquilon Balticon Bergwerk Biomera Bosse Brillux Castello
Cordana Delphin Domina Elbtec Eltronik Falkon Fennbau Ferrovia Flora Fontana Frigora Funkwerk Gallus
Glasovia Hansatrans Hartmann Heliodor Hydronik Imora Kaiser Kappelbau Karolin Kolibri Kontora Krause Lorenz
Lumetra Mariental Medigen Merkator Mirabank Monsun Nautica Neptun Nordlicht Novalux Oktavia Optima Orbitel
Palatin Pegasus Phonika Polaris Quantum Rheinglas Rotana Saphir Silberfunk Solvinta Steiner Südwind Taurus
Terrano Textura Triton Undine Veloton Vesta Viaduct Vulkan Wagner Westfracht Wolf Zentaur Zirkon
Eintracht_Bonn Eintracht_Gera Eintracht_Trier Union_Ulm Union_Kassel Union_Weimar Fortuna_Jena Fortuna_Mainz
Fortuna_Hof Viktoria_Essen Viktoria_Rostock Dynamo_Riga Dynamo_Kiew=Dynamo_Kyiv
Roter_Stern_Prag=Red_Star_Prague Roter_Stern_Wien=Red_Star_Vienna Ahlers_AG Brandt_AG Diehl_AG Engel_AG
Falke_AG Keller_GmbH Koch_GmbH Lenz_GmbH Moser_AG Roth_GmbH Seidel_AG Voigt_GmbH Weber_AG Winter_GmbH
Zeller_AG Behrens_und_Partner=Behrens_and_Partners Fuchs_und_Söhne=Fuchs_and_Sons
Gruber_und_Söhne=Gruber_and_Sons Huber_und_Partner=Huber_and_Partners
"""),
    *items("""
Universität_Basel=University_of_Basel Universität_Bergen=University_of_Bergen
Universität_Bern=University_of_Bern Universität_Genf=University_of_Geneva
Universität_Graz=University_of_Graz Universität_Halle=University_of_Halle
Universität_Kiel=University_of_Kiel Universität_Köln=University_of_Cologne
Universität_Lyon=University_of_Lyon Universität_München=University_of_Munich
Universität_Porto=University_of_Porto Universität_Prag=University_of_Prague
Universität_Rom=University_of_Rome Universität_Turin=University_of_Turin
Universität_Wien=University_of_Vienna Abendpost Morgenpost Neue_Rundschau Stadtchronik Elbzeitung Westwoche
Bürgerunion=Citizens_Union Freiheitspartei=Freedom_Party Landliga=Rural_League Volkspartei=People_Party
Nationalbank=National_Bank Landesbank=State_Bank Weltbank=World_Bank Ärztekammer=Medical_Association
Handelskammer=Chamber_of_Commerce Eisenbahngewerkschaft=Railway_Union Lehrergewerkschaft=Teachers_Union
Weltgesundheitsorganisation=World_Health_Organization
""", "f", article=True),
    *items("""
Finanzministerium=Finance_Ministry Innenministerium=Interior_Ministry Außenministerium=Foreign_Ministry
Gesundheitsministerium=Health_Ministry Landwirtschaftsministerium=Ministry_of_Agriculture
Verfassungsgericht=Constitutional_Court Landgericht=Regional_Court Kartellamt=Cartel_Office
Umweltbundesamt=Federal_Environment_Agency Statistikamt=Statistics_Office Nationaltheater=National_Theatre
""", "n", article=True),
    *items("""
Bundesrat=Federal_Council Bundestag Weltsicherheitsrat=Security_Council Rechnungshof=Court_of_Auditors
Bauernverband=Farmers_Association Fußballverband=Football_Association Städtetag=Association_of_Cities
Nordfunk=Northern_Radio
""", "m", article=True),
)  # fmt: skip

NATIONALITIES = items("""
spanisch=Spanish französisch=French italienisch=Italian portugiesisch=Portuguese griechisch=Greek
türkisch=Turkish polnisch=Polish tschechisch=Czech slowakisch=Slovak ungarisch=Hungarian rumänisch=Romanian
bulgarisch=Bulgarian serbisch=Serbian kroatisch=Croatian russisch=Russian ukrainisch=Ukrainian
estnisch=Estonian lettisch=Latvian litauisch=Lithuanian finnisch=Finnish schwedisch=Swedish
norwegisch=Norwegian dänisch=Danish isländisch=Icelandic irisch=Irish schottisch=Scottish englisch=English
britisch=British belgisch=Belgian niederländisch=Dutch schweizerisch=Swiss österreichisch=Austrian
deutsch=German bayrisch=Bavarian sächsisch=Saxon amerikanisch=American kanadisch=Canadian
mexikanisch=Mexican brasilianisch=Brazilian argentinisch=Argentine chilenisch=Chilean kubanisch=Cuban
peruanisch=Peruvian ägyptisch=Egyptian marokkanisch=Moroccan tunesisch=Tunisian kenianisch=Kenyan
syrisch=Syrian irakisch=Iraqi iranisch=Iranian indisch=Indian chinesisch=Chinese japanisch=Japanese
koreanisch=Korean australisch=Australian europäisch=European afrikanisch=African asiatisch=Asian
arabisch=Arab baltisch=Baltic schwäbisch=Swabian tirolerisch=Tyrolean
""")

NATIONALS = items("""
Spanier=Spaniard Italiener=Italian Norweger=Norwegian Engländer=Englishman Österreicher=Austrian
Schweizer=Swiss Niederländer=Dutchman Belgier=Belgian Japaner=Japanese Kanadier=Canadian Mexikaner=Mexican
Brasilianer=Brazilian Argentinier=Argentine Kubaner=Cuban Ägypter=Egyptian Marokkaner=Moroccan
Tunesier=Tunisian Amerikaner=American Australier=Australian Isländer=Icelander Luxemburger=Luxembourger
Koreaner=Korean Syrer=Syrian Inder=Indian Ukrainer=Ukrainian Berliner Wiener=Viennese Kenianer=Kenyan
Peruaner=Peruvian Europäer=European
""", "m")  # fmt: skip

# Events are compounds in German and two words in English.
_EVENT_FIRST = items("""
Elb=Elbe Donau=Danube Alpen=Alpine Hanse=Hanseatic Rosen=Rose Silber=Silver Sonnen=Sun Linden=Linden
Adler=Eagle Mozart Goethe Bernstein=Amber Insel=Island Küsten=Coast
""")
_EVENT_SECOND = (
    *items("pokal=Cup preis=Prize marathon=Marathon gipfel=Summit", "m"),
    *items("regatta=Regatta biennale=Biennial", "f"),
    *items("festival=Festival turnier=Tournament", "n"),
)
EVENTS = tuple(
    Item(first.german + second.german, f"{first.english} {second.english}", second.gender, article=True)
    for first in _EVENT_FIRST
    for second in _EVENT_SECOND
)

PROFESSIONS = (
    *items("""
Lehrer=teacher Arzt=doctor Bäcker=baker Fischer=fisherman Weber=weaver Müller=miller Schneider=tailor
Richter=judge Koch=cook Sänger=singer Maler=painter Trainer=coach Minister=minister Bürgermeister=mayor
Händler=merchant Förster=forester Gärtner=gardener Wirt=landlord Dieb=thief Gast=guest Bruder=brother
Vater=father Onkel=uncle Sohn=son Kaiser=emperor Wagner=cartwright Stadtplaner=city_planner
Straßenbahnfahrer=tram_driver
""", "m"),
    *items("""
Lehrerin=teacher Ärztin=doctor Richterin=judge Sängerin=singer Malerin=painter Ministerin=minister
Nachbarin=neighbour Schwester=sister Mutter=mother Tante=aunt Tochter=daughter Chefin=boss Trainerin=coach
""", "f"),
)  # fmt: skip

THINGS = (
    *items("""
Berg=mountain Hof=yard Wagen=car Brief=letter Stein=stone Bach=brook Tisch=table Vertrag=contract Plan=plan
Bericht=report Zug=train Garten=garden Turm=tower Wald=forest Hafen=harbour Wolf=wolf Fuchs=fox Vogel=bird
Haushaltsplan=budget Kaufvertrag=purchase_contract Bahnhof=station Busch=bush
""", "m"),
    *items("""
Halle=hall Brücke=bridge Straße=street Schule=school Kirche=church Wahl=election Uhr=clock Fabrik=factory
Rechnung=bill Stadtratssitzung=city_council_meeting Steuererhöhung=tax_increase Bushaltestelle=bus_stop
Landstraße=country_road Flora=flora Mühle=mill Ausstellung=exhibition
""", "f"),
    *items("""
Haus=house Buch=book Bild=picture Schiff=ship Dorf=village Fest=party Spiel=game Gesetz=law
Rathaus=town_hall Museum=museum Krankenhaus=hospital Horn=horn Wörterbuch=dictionary
Schlossgartenkonzert=castle_garden_concert
""", "n"),
)  # fmt: skip

# Nouns that stand without an article, where a name could stand; some are names elsewhere.
MASS = items("""
Essen=food Singen=singing Baden=bathing Wasser=water Brot=bread Musik=music Geld=money Regen=rain Wein=wine
Holz=wood Glück=luck Arbeit=work Winter=winter Sommer=summer Glas=glass Frieden=peace Politik=politics
Fußball=football Zeit=time Schnee=snow Salz=salt Kunst=art Licht=light Stahl=steel Sturm=storm Kaffee=coffee
""")

ADJECTIVES = items("""
alt=old jung=young neu=new groß=big klein=small schön=beautiful reich=rich arm=poor berühmt=famous
still=quiet freundlich=friendly fremd=strange gut=good schlecht=bad
""")

TIMES = items("""
gestern=yesterday heute=today morgens=in_the_morning jetzt=now oft=often manchmal=sometimes bald=soon
nachts=at_night am_Montag=on_Monday am_Freitag=on_Friday im_März=in_March im_Herbst=in_autumn
jeden_Tag=every_day vor_dem_Winter=before_winter nach_dem_Krieg=after_the_war in_dieser_Woche=this_week
zum_ersten_Mal=for_the_first_time
""")

NUMBERS = items(
    "zwei=two drei=three vier=four fünf=five sieben=seven zehn=ten zwanzig=twenty hundert=a_hundred"
)
