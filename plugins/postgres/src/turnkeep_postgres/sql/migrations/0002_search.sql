-- Words of messages, for search_messages. The table is written anew, and nobody else reads or writes it meanwhile.
-- The function makes the words that turnkeep.words makes, with their places, or the lexemes of a text search
-- configuration. Neither a parser nor a dictionary sees the former, so no word is a stop word.
-- What is lower case is asked of a collation that knows every script; that of the database may be C, which knows ASCII.
DO $make$
BEGIN
    EXECUTE replace($code$
        CREATE FUNCTION turnkeep_words(content text, encoding text, language regconfig) RETURNS tsvector
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
        DECLARE
            accents CONSTANT text := '[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+';
            single CONSTANT text :=
                '[\u0e01-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u25a0-\u27bf\u2b00-\u2bff'
                '\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f\u3031-\u303c\u3041-\u309f\u30a1-\u30fa'
                '\u30fc-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00016fe0-\U0001b16f'
                '\U0001f000-\U0001f3fa\U0001f400-\U0001faff\U00020000-\U0003ffff]';
            parting CONSTANT text :=
                '[\u0000-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9'
                '\u00bb-\u00bf\u00d7\u00f7\u055a-\u055f\u0589-\u058a\u05be\u05c0\u05c3\u05f3-\u05f4'
                '\u060c-\u060d\u061b-\u061f\u066a-\u066d\u06d4\u0700-\u070d\u0964-\u0965\u0970'
                '\u1361-\u1368\u1680\u2000-\u206f\u20a0-\u20cf\u2190-\u259f\u27c0-\u2aff\u2e00-\u2e2e'
                '\u2e30-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u3040\u30a0\u30fb\ud800-\udfff'
                '\ufd3e-\ufd3f\ufe00-\ufe1f\ufe30-\ufe6f\ufff0-\uffff\U0001f3fb-\U0001f3ff'
                '\U000e0000-\U000e0fff]+';
            most CONSTANT integer := 5000;
            portion integer := 65536;
            folded text;
            words text[];
        BEGIN
            IF encoding <> 'plain' THEN
                RETURN NULL;
            END IF;
            -- The beginning of a long text may have all the words that count; the last two of a part may be cut.
            LOOP
                folded := left(content, portion);
                IF octet_length(folded) = length(folded) THEN
                    folded := lower(folded COLLATE "C");
                ELSE
                    folded := lower(regexp_replace(normalize(folded, NFKD), accents, '', 'g') COLLATE "default");
                    folded := normalize(replace(folded, chr(962), chr(963)), NFC);  -- one sigma
                    folded := regexp_replace(folded COLLATE "C", single, ' \& ', 'g');
                END IF;
                words := string_to_array(btrim(regexp_replace(folded COLLATE "C", parting, ' ', 'g')), ' ');
                EXIT WHEN portion >= length(content) OR cardinality(words) >= most + 2;
                portion := portion * 8;
            END LOOP;
            words := words[:most];
            IF language IS NOT NULL THEN
                RETURN to_tsvector(language, coalesce((
                    SELECT string_agg(left(word, 32), ' ' ORDER BY place)
                    FROM unnest(words) WITH ORDINALITY AS each (word, place)
                ), ''));
            END IF;
            RETURN (
                SELECT coalesce(string_agg('''' || left(word, 32) || ''':' || place, ' '), '')
                FROM unnest(words) WITH ORDINALITY AS each (word, place)
            )::tsvector || CASE
                -- Of one word no more than 256 places are kept: here phrases have to be looked for in the text.
                WHEN cardinality(words) > 256 AND EXISTS (
                    SELECT FROM unnest(words) AS word GROUP BY left(word, 32) HAVING count(*) > 256
                ) THEN '''*'''::tsvector
                ELSE ''
            END;
        END
        $function$
    $code$, '"default"', coalesce((
        SELECT format('pg_catalog.%I', collname)
        FROM unnest(array['pg_c_utf8', 'und-x-icu', 'C.utf8']) WITH ORDINALITY AS known (name, place)
        JOIN pg_collation ON collname = name AND collnamespace = 'pg_catalog'::regnamespace
        ORDER BY place LIMIT 1
    ), '"default"'));
END
$make$;

ALTER TABLE turnkeep_messages
    ADD COLUMN words tsvector GENERATED ALWAYS AS (turnkeep_words(content, encoding, NULL::regconfig)) STORED;

CREATE INDEX turnkeep_messages_words ON turnkeep_messages USING gin (words);
